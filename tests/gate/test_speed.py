"""A tree compared with a revision of it: what is found slower, what is not, and how it ends when something is wrong."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import MARK, marked, wait_for

from fedbench.gate.checks import BenchmarkCheck, Judgement, SpeedCheck
from fedbench.gate.speed import LEAST_SESSIONS, _Benchmark, _is_decided, check_against, judge
from fedbench.gate.trees import resolve, unpacked
from fedbench.gate.turns import Pair, SideError, sides, typical
from fedbench.stats import RatioEstimate
from fedbench.util.errors import BenchmarkError

BEFORE = """
import time

def work():
    time.sleep(0.002)

def other_work():
    time.sleep(0.002)

def answer():
    return 42
"""
NOW = BEFORE.replace("work():\n    time.sleep(0.002)", "work():\n    time.sleep(0.003)", 1) + "\nadded = answer\n"
WORKLOADS = """
from types import SimpleNamespace

def set_up():
    from fedbench import work

def workload(name, group, make, only_in_bench=False):
    return SimpleNamespace(name=name, group=group, make=make, only_in_bench=only_in_bench)

def task(name, result=None):
    from fedbench import work
    return SimpleNamespace(call=getattr(work, name), arguments=lambda: (), is_right=lambda found: found == result)

WORKLOADS = [
    workload("slower", "training", lambda: task("work")),
    workload("same", "training", lambda: task("other_work")),
    workload("new", "evaluation", lambda: task("added", 42)),
    workload("wrong_answer", "evaluation", lambda: task("answer", 41)),
    workload("long", "tracking", lambda: 1 / 0, only_in_bench=True),
]
"""


# The rules


@pytest.mark.parametrize(
    ("low", "high", "judgement"),
    [
        (1.06, 1.2, Judgement.WORSE),
        (1.04, 1.2, Judgement.INCONCLUSIVE),
        (0.9, 1.06, Judgement.INCONCLUSIVE),
        (0.9, 1.04, Judgement.NOT_WORSE),
        (1.01, 1.04, Judgement.NOT_WORSE),  # slower, but by less than the threshold
        (0.8, 0.9, Judgement.BETTER),
    ],
)
def test_a_judgement_needs_the_whole_interval_on_one_side(low: float, high: float, judgement: Judgement) -> None:
    assert judgement == judge(RatioEstimate(1.0, low, high), threshold=1.05)


def test_the_typical_time_of_a_turn_is_the_lower_quartile() -> None:
    assert 2.0 == typical([9.0, 1.0, 2.0, 3.0, 4.0])
    assert 1.0 == typical([9.0, 2.0, 1.0])  # a preempted call among a few
    assert 9.0 == typical([9.0])


def test_once_one_is_slower_and_all_were_measured_often_enough_the_check_ends() -> None:
    measured = [[Pair(1.0, 1.06)]] * LEAST_SESSIONS
    slower = _Benchmark("step", "training", judgement=Judgement.WORSE)
    unclear = _Benchmark("round", "training", measured)
    assert _is_decided([slower, unclear])
    assert not _is_decided([slower, _Benchmark("round", "training", measured[1:])])
    assert not _is_decided([unclear])


# A made tree


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607 - on the PATH


def made_tree(folder: Path, before: str = BEFORE, now: str = NOW) -> Path:
    """A repository with a package called fedbench, whose working tree is ahead of its only commit; the package."""
    package = folder / "fedbench"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "work.py").write_text(before)
    (folder / "workloads.py").write_text(WORKLOADS)
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "before")
    (package / "work.py").write_text(now)
    return package


def checked(package: Path, seconds: float) -> SpeedCheck:
    return check_against("HEAD", seconds, package, package.parent / "workloads.py", session_seconds=0.1)


@pytest.mark.slow
def test_a_planted_sleep_is_found_and_what_fails_is_told_apart(tmp_path: Path) -> None:
    check = checked(made_tree(tmp_path / "tree"), 60)
    found: dict[str, BenchmarkCheck] = {each.name: each for each in check.benchmarks}
    assert ["slower", "same", "new", "wrong_answer"] == list(found)
    slower, same = found["slower"], found["same"]
    assert Judgement.WORSE is slower.judgement
    assert same.judgement in (Judgement.NOT_WORSE, Judgement.INCONCLUSIVE)  # left unclear, now that one is slower
    assert (1.5, 1.0) == pytest.approx((slower.ratio, same.ratio), abs=0.1)
    assert slower.interval is not None
    assert check.threshold < slower.interval[0] < slower.ratio < slower.interval[1]
    assert (0.002, 0.003) == pytest.approx((slower.before, slower.now), rel=0.2)
    assert ("HEAD", 40) == (check.against, len(check.against_commit))
    wrong, new = found["wrong_answer"], found["new"]
    assert (Judgement.WORSE, "fails: ValueError: the result is wrong") == (wrong.judgement, wrong.reason)
    assert (Judgement.INCONCLUSIVE, 0, True) == (new.judgement, new.samples, math.isnan(new.ratio))
    assert "cannot be run in HEAD: AttributeError: module 'fedbench.work' has no attribute 'added'" == new.reason


@pytest.mark.slow
def test_what_is_unclear_when_the_time_is_over_is_inconclusive(tmp_path: Path) -> None:
    slower = checked(made_tree(tmp_path / "tree"), 0.1).benchmarks[0]
    assert (Judgement.INCONCLUSIVE, None) == (slower.judgement, slower.interval)
    assert "not clear after 1 sessions" == slower.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "line"),
    [
        ("import no_such_module", r"^--against HEAD: it cannot be run: .*No module named 'no_such_module'$"),
        ("import os\nos._exit(7)", r"^--against HEAD: it cannot be run: its process ended with exit code 7: "),
    ],
    ids=["import", "exit"],
)
def test_a_revision_that_does_not_run_is_refused_in_one_line(before: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=line):
        checked(made_tree(tmp_path / "tree", before=before), 10)


def test_a_process_that_imports_another_fedbench_is_refused(tmp_path: Path) -> None:
    package = made_tree(tmp_path / "tree")
    with unpacked("HEAD", package.parent, package.parent / "workloads.py", package) as both:
        (both.before / "fedbench").rename(both.before / "elsewhere")
        elsewhere = pytest.raises(
            SideError, match=r"its fedbench is .*, which is another one|No module named 'fedbench'"
        )
        with elsewhere, sides(both, 0):
            pass


# Revisions


def test_a_revision_that_does_not_exist_is_refused_in_one_line(tmp_path: Path) -> None:
    tree = made_tree(tmp_path / "tree").parent
    (root, commit) = resolve("HEAD", tree / "fedbench")
    assert (tree, 40) == (root, len(commit))
    for wrong in ("nosuch", "--help", "HEAD:fedbench"):
        with pytest.raises(
            BenchmarkError, match=f"^--against {wrong}: no such revision: see git log, or git fetch it$"
        ):
            resolve(wrong, tree)


def test_a_missing_package_repository_git_or_checkout_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = made_tree(tmp_path / "tree")
    git(package.parent, "rm", "-r", "--cached", "fedbench")
    git(package.parent, "commit", "-m", "no package")
    with pytest.raises(BenchmarkError, match=r"^--against \w{7}: it has no package fedbench: choose another$"):
        check_against("HEAD", package=package)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()
    with pytest.raises(BenchmarkError, match=r"^--against needs the code in a git repository: git rev-parse in "):
        resolve("HEAD", tmp_path / "plain")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match=r"^--against needs git, which cannot be run: "):
        check_against("HEAD", package=package)
    monkeypatch.setattr("fedbench.gate.speed.checkout", lambda: None)
    with pytest.raises(BenchmarkError, match=r"^--against compares the code of a suite's own parts: name the suite; "):
        check_against("HEAD")


def test_the_trees_are_those_of_the_revision_and_of_now_and_are_removed(tmp_path: Path) -> None:
    package = made_tree(tmp_path / "tree")
    with unpacked("HEAD", package.parent, package.parent / "workloads.py", package) as both:
        texts = [(folder / "fedbench" / "work.py").read_text() for folder in (both.before, both.now)]
    assert [BEFORE, NOW] == texts
    assert not both.folder.exists()
    assert not list((package.parent / ".git").glob("worktrees/*"))


# The end


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_no_process_and_no_file(number: signal.Signals, tmp_path: Path) -> None:
    package, temporary = made_tree(tmp_path / "tree"), tmp_path / "temporary"
    temporary.mkdir()
    script = (
        "from pathlib import Path\n"
        "from fedbench.util.errors import InterruptedSuiteError\n"
        "from fedbench.gate.speed import check_against\n"
        f"package = Path({str(package)!r})\n"
        "try:\n"
        "    check_against('HEAD', 600, package, package.parent / 'workloads.py', session_seconds=600)\n"
        "except InterruptedSuiteError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary), MARK: str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: 3 == len(list(marked(str(tmp_path)))))
        time.sleep(2)  # amid the first benchmark
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    wait_for(lambda: not list(marked(str(tmp_path))))
    if number == signal.SIGINT:
        assert "nothing was judged; the same command starts over\n" == out
        assert [] == list(temporary.iterdir())
