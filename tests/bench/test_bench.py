"""The timing benchmarks: what is measured, what is recorded of it, and how `fedbench bench` ends."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from mmap import PAGESIZE
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from browser import fedbench_environment
from empty_store import put_empty_store
from test_docs import TRACKING, first_cells, table

from fedbench.bench import pytest_run as bench
from fedbench.bench import yardsticks
from fedbench.bench.plugin import rates
from fedbench.bench.pytest_run import BenchmarkResult, Measured, run_benchmarks, shipped_benchmarks
from fedbench.bench.recording import open_speed, record_speed
from fedbench.bench.yardsticks import Yardsticks
from fedbench.cli.app import app
from fedbench.executors.allocator import keep_freed_memory
from fedbench.reports.benchmarks import duration
from fedbench.tracking.mlflow.listing import list_runs
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.util.commits import Commit, commit_of
from fedbench.util.errors import BenchmarkError, StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

MADE = """
import time
import pytest

@pytest.mark.benchmark(group="made")
@pytest.mark.parametrize("size", [10, 20])
def test_quick(benchmark, size):
    benchmark.extra_info["bytes"] = 8 * size
    benchmark.pedantic(sum, args=(range(size),), rounds=6)

@pytest.mark.benchmark(group="made")
def test_counted(benchmark):
    benchmark.extra_info["flops"] = 1000
    benchmark.pedantic(sum, args=(range(1000),), rounds=3)

@pytest.mark.benchmark(group="made")
def test_wrong(benchmark):
    benchmark.pedantic(lambda: 1 / 0)

@pytest.mark.benchmark(group="made")
def test_wrong_answer(benchmark):
    assert 2 == benchmark.pedantic(lambda: 1, rounds=3)

@pytest.mark.benchmark(group="other")
def test_slow(benchmark):
    benchmark.pedantic(time.sleep, args=(600,))

def test_no_benchmark():
    raise AssertionError
"""
QUICK_YARDSTICKS = """
from fedbench.bench import yardsticks

yardsticks.SECONDS, yardsticks.COPIED_BYTES = 0.02, 16 << 20
"""
FEW_ROUNDS = """
from pytest_benchmark.fixture import BenchmarkFixture

pedantic = BenchmarkFixture.pedantic
FEW = {"rounds": 2, "warmup_rounds": 1}
BenchmarkFixture.pedantic = lambda *arguments, **options: pedantic(*arguments, **options | FEW)
"""
HERE = Yardsticks(flop_rate=1e11, flop_rate_all_cores=2e11, bandwidth=1e10, bandwidth_all_cores=1.5e10, num_cores=2)
RESULT = BenchmarkResult("step", "training", {"flops": 10**9}, 0.02, 0.001, 0.018, 0.002, 30, 50.0, None, 2.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of benchmarks: some quick, some failing, one that would take ten minutes."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(shipped_benchmarks() / "pytest.ini", folder)
    (folder / "conftest.py").write_text(QUICK_YARDSTICKS)
    (folder / "test_made.py").write_text(MADE)
    return folder


@pytest.fixture(scope="module")
def measured(made: Path) -> Measured:
    return run_benchmarks("made", made)


# Yardsticks


def test_the_yardsticks_are_measured_and_leave_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yardsticks, "SECONDS", 0.02)
    before = torch.get_num_threads()
    found = yardsticks.measure()
    assert before == torch.get_num_threads()
    assert yardsticks.usable_cores() == found.num_cores
    assert min(found.flop_rate, found.flop_rate_all_cores, found.bandwidth, found.bandwidth_all_cores) > 1e8


def test_where_the_copied_tensors_begin_does_not_depend_on_the_allocators_settings() -> None:
    """Two that begin at one offset in their pages are copied a quarter slower."""
    for _ in range(2):
        source, target = yardsticks.apart(100_000)
        assert (0, PAGESIZE // 2) == (source.data_ptr() % PAGESIZE, (target.data_ptr() - 400_000) % PAGESIZE)
        assert source.shape == target.shape
        keep_freed_memory()


def test_a_multiple_is_the_time_over_that_of_the_yardsticks_work_on_one_thread() -> None:
    assert 2.0 == HERE.multiple(0.02, flops=10**9)  # 1e9 FLOPs at 1e11 a second: 0.01 s
    assert 3.0 == pytest.approx(HERE.multiple(0.3, num_bytes=10**9))  # 1e9 bytes at 1e10 a second: 0.1 s
    assert HERE.multiple(0.3) is None


def test_drift_is_the_largest_change_whichever_way() -> None:
    later = replace(HERE, flop_rate=1.1e11, bandwidth=0.8e10)
    assert -0.2 == pytest.approx(HERE.drift(later))
    assert replace(HERE, flop_rate=1.05e11, bandwidth=0.9e10) == HERE.mean(later)


def test_rates_follow_from_the_median_and_the_work_of_a_call() -> None:
    assert {"gflops_per_second": 50.0, "yardstick_multiple": 2.0} == rates(0.02, {"flops": 10**9}, HERE)
    assert {"gbytes_per_second": 5.0, "yardstick_multiple": 2.0} == rates(0.2, {"bytes": 10**9}, HERE)
    assert {} == rates(0.2, {}, HERE)


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.50 s"), (0.0431, "43.1 ms"), (4.31e-6, "4.31 µs"), (0.0, "0.00 ns")]
)
def test_a_duration_has_three_digits_and_the_unit_that_fits(seconds: float, text: str) -> None:
    assert text == duration(seconds)


# Measuring


def test_what_is_selected_is_measured_and_the_others_are_not_begun(measured: Measured) -> None:
    assert ["quick[10]", "quick[20]", "counted"] == [each.name for each in measured.results]
    assert [6, 6, 3] == [each.timing_rounds for each in measured.results]
    assert {"made"} == {each.group for each in measured.results}


def test_a_benchmark_that_fails_is_named_with_its_reason_and_the_others_go_on(measured: Measured) -> None:
    assert {"wrong", "wrong_answer"} == measured.failed.keys()
    assert "ZeroDivisionError: division by zero" == measured.failed["wrong"]
    assert "assert 2 == 1" in measured.failed["wrong_answer"]


def test_the_json_is_that_of_pytest_benchmark_with_yardsticks_and_rates(measured: Measured) -> None:
    report = json.loads(measured.text)
    assert {"machine_info", "commit_info", "benchmarks", "datetime", "version"} == report.keys()
    names = ["test_quick[10]", "test_quick[20]", "test_counted"]
    assert names == [each["name"] for each in report["benchmarks"]]
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


def test_a_selection_of_nothing_is_one_line_that_lists_what_there_is(made: Path) -> None:
    line = "--select nosuch: no such benchmark; there are quick[10], quick[20], counted, wrong, wrong_answer, slow"
    with pytest.raises(BenchmarkError) as caught:
        run_benchmarks("nosuch", made)
    assert line == str(caught.value)


def test_without_pytest_benchmark_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "NEEDED", ("pytest", "no_such_module"))
    with pytest.raises(BenchmarkError, match=r'^no-such-module not installed: pip install "fedbench-mlflow\[bench\]"$'):
        app(["bench"], standalone_mode=False)


def test_a_file_that_cannot_be_imported_is_a_failure_and_the_others_go_on(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(made, folder)
    (folder / "test_broken.py").write_text("import no_such_module")
    found = run_benchmarks("counted", folder)
    assert ["counted"] == [each.name for each in found.results]
    assert {"test_broken.py": "ModuleNotFoundError: No module named 'no_such_module'"} == found.failed


def test_a_process_that_dies_is_one_line_with_its_last_words(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "pytest.ini", tmp_path)
    (tmp_path / "test_dying.py").write_text("import os\nprint('farewell', flush=True)\nos._exit(7)\n")
    with pytest.raises(BenchmarkError, match=r"^pytest ended with exit code 7 and has reported nothing: "):
        run_benchmarks(None, tmp_path)


# Recording


def recorded_runs(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("speed")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def made_measurement(*results: BenchmarkResult) -> Measured:
    versions = {"fedbench.version": "1", "fedbench.python": "3", "fedbench.torch": "2", "fedbench.processor": "AVX2"}
    return Measured("{}", results, {}, "a processor, 2 cores", versions, (HERE, HERE))


def test_each_benchmark_is_a_run_whose_step_is_the_number_of_commits(measured: Measured, tmp_path: Path) -> None:
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlflow.db")
    client = open_speed(uri)
    record_speed(client, uri, measured, Commit("a" * 40 + "-dirty", 7))
    runs = {run.data.tags["fedbench.benchmark"]: run for run in recorded_runs(client)}
    assert {"quick[10]", "quick[20]", "counted"} == runs.keys()
    run = runs["quick[10]"]
    assert ("quick[10] aaaaaaa-dirty", "FINISHED") == (run.info.run_name, run.info.status)
    assert {"size": "10", "bytes": "80"} == run.data.params
    result = measured.results[0]
    assert (result.median, result.yardstick_multiple) == (
        run.data.metrics["median_seconds"],
        run.data.metrics["yardstick_multiple"],
    )
    assert {7} == {point.step for point in client.get_metric_history(run.info.run_id, "median_seconds")}
    assert ("a" * 40, "true") == tuple(run.data.tags[f"mlflow.source.git.{name}"] for name in ("commit", "dirty"))


def test_the_page_on_mlflow_names_what_is_recorded_of_a_benchmark_and_nothing_else(tmp_path: Path) -> None:
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlflow.db")
    client = open_speed(uri)
    copied = replace(RESULT, name="copy", params={"bytes": 1}, gflops_per_second=None, gbytes_per_second=1.0)
    record_speed(client, uri, made_measurement(RESULT, copied), Commit("a" * 40, 7))
    runs = recorded_runs(client)
    assert {tag for run in runs for tag in run.data.tags} == first_cells(TRACKING, "### Benchmark run: tags")
    assert {name for run in runs for name in run.data.metrics} == first_cells(TRACKING, "### Benchmark run: metrics")
    assert {name for run in runs for name in run.data.params} == {"flops", "bytes"}
    described = " ".join(row[0] for row in table(TRACKING, "## The experiment `speed`"))
    experiment = client.get_experiment_by_name("speed")
    assert experiment is not None
    tags = {tag for tag in experiment.tags if not tag.startswith("mlflow.experiment")}
    in_store = {tag.replace("-training", "-<group>") for tag in tags}
    assert in_store == set(re.findall(r"tag `([^`]+)`", described))


def test_a_second_measurement_adds_runs_and_the_views_of_its_groups(tmp_path: Path) -> None:
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlflow.db")
    client = open_speed(uri)
    record_speed(client, uri, made_measurement(RESULT), Commit("a" * 40, 1))
    record_speed(client, uri, made_measurement(replace(RESULT, group="tracking")), Commit("b" * 40, 2))
    assert 2 == len(recorded_runs(client))
    experiment = client.get_experiment_by_name("speed")
    assert experiment is not None
    views = {key: value for key, value in experiment.tags.items() if key.startswith("mlflow.sharedViewState.")}
    assert {"speed", "speed-training", "speed-tracking"} == {key.rpartition(".")[2] for key in views}
    assert all(len(value) < 5_000 for value in views.values())  # MLflow's limit


def test_if_the_store_fails_meanwhile_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlflow.db")
    client = open_speed(uri)
    log_batch, calls = client.log_batch, iter((True, False))

    def fail_the_second_time(*arguments: Any, **options: Any) -> None:
        if not next(calls):
            raise OSError(28, "No space left on device")
        log_batch(*arguments, **options)

    monkeypatch.setattr(client, "log_batch", fail_the_second_time)
    with pytest.raises(StoreError, match="the disk is full"):
        record_speed(client, uri, made_measurement(RESULT, RESULT), Commit("none", 0))
    assert [] == recorded_runs(client)


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        ({"fedbench.schema": "2"}, "was not made by fedbench bench"),
        ({"fedbench.speed_schema": "9"}, "upgrade fedbench"),
    ],
)
def test_an_experiment_of_that_name_of_another_kind_is_refused_before_anything_is_measured(
    tmp_path: Path, tags: dict[str, str], line: str
) -> None:
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlflow.db")
    open_speed(uri).create_experiment("speed", tags=tags)
    with pytest.raises(StoreError, match=line):
        open_speed(uri)


def test_the_timings_are_no_suites_runs(tmp_path: Path) -> None:
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlflow.db")
    record_speed(open_speed(uri), uri, made_measurement(RESULT), Commit("none", 0))
    assert [] == list_runs(None, uri)
    with pytest.raises(StoreError, match="was recorded by fedbench bench and is not a suite"):
        read_suite("speed", uri)


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607 - on the PATH


def test_the_step_is_the_number_of_commits_and_a_change_makes_the_commit_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init")
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text)
        git(tmp_path, "add", "file")
        git(tmp_path, "commit", "-m", text)
    clean = commit_of(tmp_path)
    assert (40, 2, False) == (len(clean.name), clean.count, clean.is_shallow)
    (tmp_path / "file").write_text("three")
    assert f"{clean.name}-dirty" == commit_of(tmp_path).name


def test_an_installed_wheel_has_no_commit() -> None:
    assert Commit("none", 0) == commit_of(None)


# The command


def command(made: Path, *arguments: str) -> list[str]:
    """`fedbench bench` on the made benchmarks."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom fedbench import bench\nfrom fedbench.cli.app import main\n"
        f"bench.shipped_benchmarks = lambda: Path({str(made)!r})\n"
        f"sys.argv = ['fedbench', 'bench', *{list(arguments)!r}]\n"
        "main()\n"
    )
    return [sys.executable, "-c", script]


def fedbench(made: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(made, *arguments),
        cwd=folder,
        env=fedbench_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_help_and_a_wrong_option_import_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    for arguments in (["bench", "--help"], ["bench", "--nosuch"]):
        script = (
            "import sys\nfrom fedbench.cli.app import main\n"
            f"sys.argv = ['fedbench', *{arguments!r}]\n"
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


@pytest.mark.slow
def test_the_table_shows_what_was_measured_and_a_failure_is_one_line_and_exit_code_1(
    made: Path, tmp_path: Path
) -> None:
    done = fedbench(made, tmp_path, "--select", "made")
    assert 1 == done.returncode
    for text in ("quick[10]", "GB/s", "counted", "GFLOP/s", "Yardsticks: ", "fedbench ui speed"):
        assert text in done.stdout
    lines = done.stderr.splitlines()
    assert "fedbench: wrong failed: ZeroDivisionError: division by zero" in lines
    assert 2 == sum("failed: " in line for line in lines)
    assert ["mlruns"] == [path.name for path in tmp_path.iterdir()]
    assert 3 == len(recorded_runs(open_speed(f"sqlite:///{tmp_path}/mlruns/mlflow.db")))


@pytest.mark.slow
def test_the_json_is_alone_on_standard_output_and_without_a_log_nothing_is_written(made: Path, tmp_path: Path) -> None:
    done = fedbench(made, tmp_path, "--select", "quick", "--json", "--no-log")
    assert 0 == done.returncode, done.stderr
    assert 2 == len(json.loads(done.stdout)["benchmarks"])
    assert [] == list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interruption_ends_the_benchmarks_and_leaves_nothing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    environment = fedbench_environment(TMPDIR=str(tmp_path / "temporary"), FEDBENCH_TEST=str(tmp_path))
    process = subprocess.Popen(
        command(made, "--select", "slow"),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: any(map(runs_pytest, marked(str(tmp_path)))))  # git runs before
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (130, "") == (process.returncode, out)
    assert "fedbench: interrupted: nothing was recorded; the same command measures anew\n" == err
    wait_for(lambda: not list(marked(str(tmp_path))))
    assert [] == list((tmp_path / "temporary").iterdir())
    assert [] == recorded_runs(open_speed(f"sqlite:///{tmp_path}/mlruns/mlflow.db"))


def wait_for(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen in 30 seconds")


def runs_pytest(pid: int) -> bool:
    try:
        return "pytest" in psutil.Process(pid).cmdline()
    except psutil.Error:  # it has ended
        return False


def marked(mark: str) -> Iterator[int]:
    """The processes that have `mark` in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours to look at
            if f"FEDBENCH_TEST={mark}" in (process / "environ").read_text(errors="replace"):
                yield int(process.name)


@pytest.mark.slow
def test_every_benchmark_is_timed_and_recorded(tmp_path: Path) -> None:
    benchmarks, folder = tmp_path / "benchmarks", tmp_path / "folder"
    shutil.copytree(shipped_benchmarks(), benchmarks, ignore=shutil.ignore_patterns("__pycache__"))
    with (benchmarks / "conftest.py").open("a") as file:
        file.write(QUICK_YARDSTICKS + FEW_ROUNDS)
    folder.mkdir()
    done = fedbench(benchmarks, folder, "--json")
    assert 0 == done.returncode, done.stderr
    timed = json.loads(done.stdout)["benchmarks"]
    assert {"averaging", "training", "evaluation", "partition", "tracking"} == {each["group"] for each in timed}
    without = [each["name"] for each in timed if "yardstick_multiple" not in each["extra_info"]]
    assert ["test_track_a_run_of_five_rounds"] == without
    runs = recorded_runs(open_speed(f"sqlite:///{folder}/mlruns/mlflow.db"))
    recorded = {f"test_{run.data.tags['fedbench.benchmark']}" for run in runs}
    assert ({each["name"] for each in timed}, len(timed)) == (recorded, len(runs))
    assert ["mlruns"] == [path.name for path in folder.iterdir()]
