"""The endurance scripts in small: `--help` says how to run them at full size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from needed import needs
from postgresql import why_no_postgresql
from ray_nodes import why_no_ray

HERE = Path(__file__).parent


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted({path.name for path in HERE.glob("*.py")} - {Path(__file__).name}))
def test_a_script_says_what_it_does(script: str) -> None:
    assert f"python tests/endurance/{script}" in run(script, "--help")


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_different_when_the_command_is_killed(tmp_path: Path) -> None:
    small = ("--only", "more-data", "--seeds", "0-1", "--set", "examples_per_client=25", "--workers", "1")
    out = run("kill_quickstart.py", "--kills", "1", "--folder", str(tmp_path / "kills"), "--", "quickstart", *small)
    assert "\n1 kills at 0 to " in out
    assert "lost: 0\ndoubled: 0\ndifferent: 0\nleft running: 0\ncheckpoint left: 0\ncell is not right: 0\n" in out


@pytest.mark.slow
def test_no_trial_is_lost_doubled_or_different_when_a_study_is_killed(tmp_path: Path) -> None:
    of_command = ("--kills", "1", "--seed", "11")  # tests/tuning/test_search.py kills a worker
    out = run("kill_tuning.py", *of_command, "--trials", "2", "--folder", str(tmp_path / "kills"))
    assert "1 kills, 0 of a worker and 1 of the whole command" in out
    assert "lost: 0\ndoubled: 0\ndifferent: 0\nleft running: 0\nfailed: 0\n" in out


@pytest.mark.slow
def test_nothing_is_lost_when_several_processes_record_at_once(tmp_path: Path) -> None:
    out = run("many_writers.py", "--processes", "2", "--runs", "20", "--folder", str(tmp_path / "writers"))
    assert "20 runs by 2 processes: " in out
    assert "errors: 0\nlost or wrong: 0\n" in out


@pytest.mark.slow
@needs(why_no_ray())
@needs(why_no_postgresql())
def test_nothing_is_lost_doubled_or_different_when_parts_of_a_cluster_fail(tmp_path: Path) -> None:
    """A worker, a node, the MLflow server for 4 s, PostgreSQL: one of each."""
    one_of_each = ("--faults", "4", "--away", "4")
    six_runs = ("--only", "two-models", "--seeds", "0-2")
    out = run("cluster_faults.py", *one_of_each, "--folder", str(tmp_path / "faults"), "--", *six_runs)
    assert "\n4 faults: database 1, node 1, server 1, worker 1\n" in out
    assert (
        "lost: 0\ndoubled: 0\ndifferent: 0\nleft running: 0\ncheckpoint left: 0\ncell is not right: 0\nfailed: 0\n"
        in out
    )


@pytest.mark.slow
def test_many_runs_are_all_in_the_store(tmp_path: Path) -> None:
    out = run("many_runs.py", "--runs", "30", "--executor", "local", "--folder", str(tmp_path / "many"))
    assert "failed: 0\nlost: 0\ndoubled: 0\ncells: 3 of 3\n" in out
