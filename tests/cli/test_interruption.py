"""Commands that are interrupted, killed, or run at once: what they leave, and that the same command resumes."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import Done, fedbench_here
from process import COMMAND, environment, notices

LONG = """
name: long
question: Does it resume after an interruption?
seeds: [0, 1, 2]
scenarios: [{name: pair, examples_per_client: 20, rounds: 10, local_epochs: 1}]
"""
DROPPED = """
import signal, time, weakref
from fedbench.cli.exits import run_to_exit

class Thing: ...

def command():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing  # Python drops what the callback raises
    time.sleep(20)

run_to_exit(command)
"""


FORKS = """
from fedbench.cli.exits import run_to_exit

def command():
    from fedbench.executors.processes import import_ahead
    import_ahead()
    raise KeyboardInterrupt

run_to_exit(command)
"""


def test_an_interrupted_command_leaves_no_temporary_files(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], env=environment(TMPDIR=str(tmp_path)), check=False)
    assert 130 == done.returncode
    assert [] == list(tmp_path.iterdir())


def test_an_interruption_that_python_drops_is_not_lost() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, check=False)
    assert (130, "", "fedbench: interrupted\n") == (done.returncode, done.stdout, done.stderr)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("where", "reason"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_standard_output_that_cannot_be_written_is_one_line(where: str, reason: str, unbuffered: str) -> None:
    script = "from fedbench.cli.exits import run_to_exit; run_to_exit(lambda: print('x' * 10_000, flush=True))"
    command, env = f'"$1" -c "$2" {where}', environment(PYTHONUNBUFFERED=unbuffered)
    done = subprocess.run(
        ["/bin/sh", "-c", command, "", sys.executable, script], capture_output=True, text=True, env=env
    )
    assert 1 == done.returncode
    assert f"fedbench: error: standard output cannot be written ({reason}): send it elsewhere\n" == done.stderr


def test_a_reader_that_has_gone_is_no_error() -> None:
    script = "from fedbench.cli.exits import run_to_exit; run_to_exit(lambda: print('x\\n' * 100_000))"
    done = subprocess.run(["/bin/sh", "-c", '"$1" -c "$2" | head -1', "", sys.executable, script], capture_output=True)
    assert (b"x\n", b"") == (done.stdout, done.stderr)


def nightly(value: object) -> Any:
    """A parameter with which the test repeats its point: for `make prove`."""
    return pytest.param(value, marks=pytest.mark.nightly)


def select(folder: Path, query: str) -> list[str]:
    """Ask the store without MLflow, which would create it while the command creates it."""
    path = folder / "mlruns" / "mlflow.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return sorted(value for (value,) in connection.execute(query))
        except sqlite3.OperationalError:  # there is no such table yet
            return []


RUNS = """
    FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'fedbench.kind' AND tags.value = 'run'
    WHERE runs.lifecycle_stage = 'active'
"""


def statuses(folder: Path) -> list[str]:
    """The statuses of the seeds' runs, without those of cells."""
    return select(folder, f"SELECT status {RUNS}")


def run_ids(folder: Path) -> list[str]:
    return select(folder, f"SELECT runs.run_uuid {RUNS}")


def second_run_is_under_way(folder: Path) -> bool:
    return {"FINISHED", "RUNNING"} == set(statuses(folder))


def checkpoints(folder: Path) -> list[Path]:
    """Of the runs under way, from the end of their first round on."""
    return list((folder / "mlruns" / "checkpoints").glob("*.ckpt"))


def two_checkpoints(folder: Path) -> bool:
    return 2 == len(checkpoints(folder))


def the_store_is_half_created(folder: Path) -> bool:
    path = folder / "mlruns" / "mlflow.db"
    return path.exists() and path.stat().st_size > 0


def wait_until_gone(group: int) -> None:
    """Wait for the end of every process of a group; 30 seconds at most."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the command left a process behind")


def interrupted(
    folder: Path,
    *arguments: str,
    when: Callable[[Path], bool],
    number: int = signal.SIGINT,
    group: bool = False,
    **changes: str,
) -> Done:
    """Start a command, send it a signal once `when` says so, and wait for its end."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not when(folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, err
    wait_until_gone(process.pid)
    return Done(process.returncode, out, err)


def test_an_interrupted_command_says_how_to_resume_and_the_same_command_does(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    command = ("run", "long.yaml", "--workers", "1", "--no-models")
    done = interrupted(tmp_path, *command, when=second_run_is_under_way)
    assert 130 == done.code
    lines = notices(done)
    assert 1 == len(lines), done.err
    assert re.fullmatch(r"fedbench: interrupted: [12] of 3 runs are finished; the same command resumes", lines[0])
    finished = int(lines[0].split()[2])
    begun = ["FINISHED"] * finished
    assert statuses(tmp_path) in ([*begun, "KILLED"], begun)  # a run that is interrupted while it is begun is not left
    before = run_ids(tmp_path)

    again = json.loads(fedbench_here(*command, "--json", folder=tmp_path).out)
    assert (3 - finished, finished, 0) == (again["executed"], again["skipped"], again["failed"])
    assert [0, 1, 2] == again["cells"][0]["seeds"]
    assert ["FINISHED"] * 3 == statuses(tmp_path)
    assert set(before) <= set(run_ids(tmp_path))  # the interrupted run resumed, under its id


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, nightly(signal.SIGTERM), nightly(signal.SIGHUP)])
def test_workers_end_with_an_interrupted_command(tmp_path: Path, number: int) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 5000"))

    done = interrupted(tmp_path, "run", "long.yaml", "--workers", "2", when=two_checkpoints, number=number, group=True)
    assert 130 == done.code
    assert 1 == len(notices(done)), done.err
    assert ["KILLED", "KILLED"] == statuses(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", nightly("2")])
def test_a_command_that_trains_ends_within_a_second_of_ctrl_c(tmp_path: Path, workers: str) -> None:
    seconds = []
    for attempt in range(2):  # the machine may have been busy once
        folder = tmp_path / str(attempt)
        folder.mkdir()
        (folder / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 5000"))
        process = subprocess.Popen(
            [*COMMAND, "run", "long.yaml", "--workers", workers],
            cwd=folder,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda folder=folder: len(checkpoints(folder)) == int(workers), seconds=120)  # type: ignore[misc]
        start = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(
            timeout=60
        )  # for that alone: what its workers are forked from has its standard error a little longer
        seconds.append(time.monotonic() - start)
        _, err = process.communicate(timeout=60)
        wait_until_gone(process.pid)
        line = "fedbench: interrupted: 0 of 3 runs are finished; the same command resumes"
        assert (130, line) == (process.returncode, err.splitlines()[-1]), err
        assert ["KILLED"] * int(workers) == statuses(folder)
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1, f"{seconds} s with {workers} workers"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [nightly("1"), "2"])
def test_after_sigkill_the_same_command_resumes_its_runs(tmp_path: Path, workers: str) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 30"))
    command = ("run", "long.yaml", "--workers", workers, "--no-models")
    done = interrupted(
        tmp_path,
        *command,
        when=lambda folder: len(checkpoints(folder)) == int(workers),
        number=signal.SIGKILL,
        group=True,
    )
    assert -signal.SIGKILL == done.code
    assert ["RUNNING"] * int(workers) == statuses(tmp_path)
    before = run_ids(tmp_path)
    again = fedbench_here(*command, "--json", folder=tmp_path)
    found = json.loads(again.out)
    assert (0, []) == (again.code, notices(again))
    assert (3, 0, 0) == tuple(found[key] for key in ("executed", "skipped", "failed"))
    assert ["FINISHED"] * 3 == statuses(tmp_path)
    assert set(before) <= set(run_ids(tmp_path))
    steps = select(tmp_path, "SELECT run_uuid || ' ' || step FROM metrics WHERE key = 'accuracy'")
    assert (90, 90) == (len(steps), len(set(steps)))  # each round once
    assert [] == list((tmp_path / "mlruns" / "checkpoints").iterdir())


@pytest.mark.slow
def test_two_commands_at_once_share_the_runs_of_a_suite_and_each_is_recorded_once(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("[0, 1, 2]", "[0, 1, 2, 3, 4, 5]"))
    command = [*COMMAND, "run", "long.yaml", "--workers", "1", "--json", "--no-models"]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    found = [json.loads(process.communicate(timeout=180)[0]) for process in processes]
    assert [0, 0] == [process.returncode for process in processes]
    assert 6 == sum(each["executed"] for each in found)
    assert [6, 6] == [each["executed"] + each["skipped"] for each in found]
    assert ["FINISHED"] * 6 == statuses(tmp_path)
    of_cells = RUNS.replace("tags.value = 'run'", "tags.value = 'cell'")
    assert ["FINISHED"] == select(tmp_path, f"SELECT status {of_cells}")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [nightly(0.7), 1.5, nightly(3.0)])
def test_an_interruption_while_the_command_starts_is_quiet(tmp_path: Path, seconds: float) -> None:
    """After so many seconds of processor time, so that the load of the machine does not matter."""
    (tmp_path / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 1000"))
    mark = str(tmp_path / "mark")
    done = interrupted(
        tmp_path,
        *("run", "long.yaml", "--workers", "2"),
        when=lambda _: used_seconds(mark) > seconds,
        group=True,
        FEDBENCH_TEST=mark,
    )
    assert 130 == done.code, done.err
    assert len(done.err.split("\n")) <= 3, done.err
    assert "RUNNING" not in statuses(tmp_path)


@pytest.mark.slow
def test_a_store_whose_creation_was_interrupted_is_created_by_the_next_command(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    command = ("run", "long.yaml", "--workers", "1", "--seeds", "0", "--set", "rounds=1")
    assert 130 == interrupted(tmp_path, *command, when=the_store_is_half_created).code
    again = fedbench_here(*command, folder=tmp_path)
    assert (0, []) == (again.code, notices(again))


@pytest.mark.slow
def test_two_commands_may_create_the_store_at_once(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    one_round = ("--workers", "1", "--set", "rounds=1", "--no-models", "--seeds")
    command = [*COMMAND, "run", "long.yaml", *one_round]
    processes = [
        subprocess.Popen([*command, seed], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL) for seed in "01"
    ]
    assert [0, 0] == [process.wait(timeout=120) for process in processes]
    assert ["FINISHED"] * 2 == statuses(tmp_path)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed_in_the_middle_of_a_round(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("local_epochs: 1}", "local_epochs: 1000000}"))
    mark = str(tmp_path / "mark")
    command = [*COMMAND, "run", "long.yaml", "--workers", "2"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(FEDBENCH_TEST=mark), stderr=subprocess.DEVNULL
    ) as parent:
        wait_for(lambda: ["RUNNING"] * 2 == statuses(tmp_path))
        parent.kill()
    wait_for(lambda: not processes_with(mark))


def used_seconds(mark: str) -> float:
    """The processor time of the processes that have `mark` in their environment."""
    seconds = 0.0
    for process in processes_with(mark):
        with suppress(psutil.Error):  # it has ended
            seconds += sum(psutil.Process(int(process.name)).cpu_times()[:2])
    return seconds


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def processes_with(mark: str) -> list[Path]:
    """The processes that have `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours to look at
            if mark in (process / "environ").read_text(errors="replace"):
                found.append(process)
    return found
