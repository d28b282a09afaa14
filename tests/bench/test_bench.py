"""The timing benchmarks: what is measured, and how `fedbench bench` ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from mmap import PAGESIZE
from pathlib import Path

import pytest
import torch
from browser import fedbench_environment
from command import fedbench_here
from empty_store import put_empty_store
from made_timings import HERE
from processes import MARK, marked, wait_for

from fedbench.bench import run, yardsticks
from fedbench.bench.run import Measured, run_benchmarks
from fedbench.bench.session import rates
from fedbench.bench.workloads import WORKLOADS, Workload, flops_of
from fedbench.bench.yardsticks import Yardsticks
from fedbench.executors.allocator import keep_freed_memory
from fedbench.util.environment import usable_cores
from fedbench.util.errors import BenchmarkError

MADE = """
import os
import time
from functools import partial

from fedbench.bench import yardsticks
from fedbench.bench.workloads import Task, Workload

yardsticks.SECONDS, yardsticks.COPIED_BYTES = 0.02, 16 << 20

def set_up():
    pass

def quick(size):
    return Task(sum, lambda: (range(size),), lambda found: True, num_bytes=8 * size)

def counted(right=499500):
    return Task(sum, lambda: (range(1000),), lambda found: found == right, flops=1000)

def calling(call):
    return Task(call, lambda: (), lambda found: True)

WORKLOADS = [
    Workload("quick[10]", "made", partial(quick, 10), 6, {"size": 10}),
    Workload("quick[20]", "made", partial(quick, 20), 6, {"size": 20}),
    Workload("counted", "made", counted, 3),
    Workload("wrong", "made", partial(calling, lambda: 1 / 0), 3),
    Workload("wrong_answer", "made", partial(counted, 1), 3),
    Workload("slow", "other", partial(calling, partial(time.sleep, 600)), 1),
    Workload("deadly", "another", partial(calling, partial(os._exit, 7)), 1),
]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of workloads: some quick, some failing, one that would take ten minutes."""
    path = tmp_path_factory.mktemp("made") / "made.py"
    path.write_text(MADE)
    return path


@pytest.fixture(scope="module")
def measured(made: Path) -> Measured:
    return run_benchmarks("made", made)


# Yardsticks


def test_the_yardsticks_are_measured_and_leave_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yardsticks, "SECONDS", 0.02)
    monkeypatch.setattr(yardsticks, "COPIED_BYTES", 16 << 20)
    before = torch.get_num_threads()
    found = yardsticks.measure()
    assert before == torch.get_num_threads()
    assert usable_cores() == found.num_cores
    assert min(found.flop_rate, found.flop_rate_all_cores, found.bandwidth, found.bandwidth_all_cores) > 1e8


def test_where_the_copied_tensors_begin_does_not_depend_on_the_allocator() -> None:
    """A copy between equal offsets in their pages is a quarter slower."""
    for _ in range(2):
        source, target = yardsticks.apart(100_000)
        assert (0, PAGESIZE // 2) == (source.data_ptr() % PAGESIZE, (target.data_ptr() - 400_000) % PAGESIZE)
        assert source.shape == target.shape
        keep_freed_memory()


def test_a_multiple_is_the_time_over_that_of_the_yardstick_on_one_thread() -> None:
    assert 2.0 == HERE.multiple(0.02, flops=10**9)  # 1e9 FLOPs at 1e11 a second: 0.01 s
    assert 3.0 == pytest.approx(HERE.multiple(0.3, num_bytes=10**9))  # 1e9 bytes at 1e10 a second: 0.1 s
    assert HERE.multiple(0.3) is None
    assert {"gflops_per_second": 50.0, "yardstick_multiple": 2.0} == rates(0.02, {"flops": 10**9}, HERE)
    assert {"gbytes_per_second": 5.0, "yardstick_multiple": 2.0} == rates(0.2, {"bytes": 10**9}, HERE)
    assert {} == rates(0.2, {}, HERE)


def test_drift_is_the_largest_change_in_either_direction() -> None:
    later = replace(HERE, flop_rate=1.1e11, bandwidth=0.8e10)
    assert -0.2 == pytest.approx(HERE.drift(later))
    assert replace(HERE, flop_rate=1.05e11, bandwidth=0.9e10) == HERE.mean(later)


# The workloads


@pytest.mark.parametrize("workload", WORKLOADS, ids=[each.name for each in WORKLOADS])
def test_every_workload_works(workload: Workload) -> None:
    task = workload.make()
    assert task.is_right(task.call(*task.arguments()))
    assert bool(task.flops) != bool(task.num_bytes)


def test_the_flops_are_those_of_the_convolutions_and_dense_layers_forward_and_backward() -> None:
    conv1, conv2 = 2 * 25 * 1 * 10 * 24**2, 2 * 25 * 10 * 20 * 8**2  # 5x5 kernels, a multiplication and an addition
    dense = 2 * 320 * 50 + 2 * 50 * 10
    forward = conv1 + conv2 + dense
    backward = conv1 + 2 * (conv2 + dense)  # the images themselves need no gradient
    assert 50 * (forward + backward) == flops_of(50) == 129_750_000
    assert 10_000 * forward == flops_of(10_000, is_training=False)


# Measuring


def test_only_what_is_selected_is_measured(measured: Measured) -> None:
    assert ["quick[10]", "quick[20]", "counted"] == [each.name for each in measured.results]
    assert [6, 6, 3] == [each.timing_rounds for each in measured.results]
    assert {"made"} == {each.group for each in measured.results}
    assert {"size": 10, "bytes": 80} == measured.results[0].params


def test_a_failed_benchmark_is_named_with_its_reason_and_the_others_continue(measured: Measured) -> None:
    expected = {"wrong": "ZeroDivisionError: division by zero", "wrong_answer": "the result is wrong"}
    assert expected == measured.failed


def test_the_json_is_that_of_pytest_benchmark_with_yardsticks_and_rates(measured: Measured) -> None:
    report = json.loads(measured.text)
    assert {"machine_info", "commit_info", "benchmarks", "datetime", "version"} == report.keys()
    assert ["quick[10]", "quick[20]", "counted"] == [each["name"] for each in report["benchmarks"]]
    found = report["machine_info"]["yardsticks"]
    start, end = (Yardsticks(**found[when]) for when in ("start", "end"))
    assert (start, end) == measured.yardsticks
    for each in report["benchmarks"]:
        extra = each["extra_info"]
        work = "bytes" if "bytes" in extra else "flops"
        rate = "gbytes_per_second" if work == "bytes" else "gflops_per_second"
        assert extra[rate] == pytest.approx(extra[work] / each["stats"]["median"] / 1e9)
        expected = start.mean(end).multiple(each["stats"]["median"], extra.get("flops", 0), extra.get("bytes", 0))
        assert expected == pytest.approx(extra["yardstick_multiple"])


def test_what_cannot_be_measured_is_refused_in_one_line(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "quick[10], quick[20], counted, wrong, wrong_answer, slow, deadly"
    with pytest.raises(BenchmarkError) as caught:
        run_benchmarks("nosuch", made)
    assert f"--select nosuch: no such benchmark; there are {names}" == str(caught.value)
    with pytest.raises(BenchmarkError, match=r"^the benchmarks have ended with exit code 7: "):
        run_benchmarks("deadly", made)
    (tmp_path / "broken.py").write_text("import no_such_module")
    with pytest.raises(BenchmarkError, match=r"exit code 1: ModuleNotFoundError: No module named 'no_such_module'$"):
        run_benchmarks(None, tmp_path / "broken.py")
    monkeypatch.setattr(run, "NEEDED", ("pytest", "no_such_module"))
    with pytest.raises(BenchmarkError, match=r'^no-such-module not installed: pip install "fedbench-mlflow\[bench\]"$'):
        run_benchmarks("quick", made)


# The command


def test_the_help_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom fedbench.cli.app import main\n"
        "sys.argv = ['fedbench', 'bench', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('imported:', sorted({'torch', 'mlflow', 'pytest'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=fedbench_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "imported: []" == done.stdout.splitlines()[-1]


def test_the_command_shows_and_records_what_was_measured(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_benchmarks", lambda *_: measured)
    put_empty_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    done = fedbench_here("bench", "--select", "made", folder=tmp_path)
    assert 1 == done.code
    for text in ("quick[10]", "GB/s", "counted", "GFLOP/s", "Yardsticks: ", "fedbench ui speed"):
        assert text in done.out
    assert "fedbench: wrong failed: ZeroDivisionError: division by zero" in done.err.splitlines()
    assert 2 == done.err.count("failed: ")
    assert ["mlruns"] == [path.name for path in tmp_path.iterdir()]
    (tmp_path / "other").mkdir()
    passed = replace(measured, failed={})
    monkeypatch.setattr(run, "run_benchmarks", lambda *_: passed)
    done = fedbench_here("bench", "--json", "--no-log", folder=tmp_path / "other")
    assert (0, 3) == (done.code, len(json.loads(done.out)["benchmarks"]))
    assert [] == list((tmp_path / "other").iterdir())


@pytest.mark.slow
def test_an_interruption_ends_the_benchmarks_and_leaves_nothing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    script = (
        "import sys\nfrom pathlib import Path\nfrom fedbench.bench import run\nfrom fedbench.cli.app import main\n"
        "measure = run.run_benchmarks\n"
        f"run.run_benchmarks = lambda select: measure(select, Path({str(made)!r}))\n"
        "sys.argv = ['fedbench', 'bench', '--select', 'slow', '--no-log']\n"
        "main()\n"
    )
    environment = fedbench_environment(TMPDIR=str(tmp_path / "temporary"), **{MARK: str(tmp_path)})
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: 2 == len(list(marked(str(tmp_path)))))
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (130, "") == (process.returncode, out)
    assert "fedbench: interrupted: nothing was recorded; the same command starts over\n" == err
    wait_for(lambda: not list(marked(str(tmp_path))))
    assert [] == list((tmp_path / "temporary").iterdir())
