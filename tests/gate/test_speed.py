"""A tree against a revision of it: what is found slower, what is not, and how it ends when something is wrong."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fedbench.gate import speed, trees
from fedbench.gate.bootstrap import RatioEstimate, estimate, judge
from fedbench.gate.checks import BenchmarkCheck, Judgement, SpeedCheck
from fedbench.gate.lockstep import Pair, SideError, processes, typical
from fedbench.gate.speed import LEAST_SESSIONS, _Benchmark, _is_decided, check_against
from fedbench.gate.trees import resolve, unpacked
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
BENCHMARKS = """
import pytest
from fedbench import work

@pytest.mark.benchmark(group="training")
def test_slower(benchmark):
    benchmark(work.work)

@pytest.mark.benchmark(group="training")
def test_same(benchmark):
    benchmark.pedantic(work.other_work, setup=lambda: ((), {}), rounds=3, warmup_rounds=1)

@pytest.mark.benchmark(group="evaluation")
def test_new(benchmark):
    benchmark.pedantic(work.added)

@pytest.mark.benchmark(group="evaluation")
def test_wrong_answer(benchmark):
    assert 41 == benchmark.pedantic(work.answer)

@pytest.mark.benchmark(group="evaluation")
def test_untimed(benchmark):
    pass

@pytest.mark.benchmark(group="tracking")
def test_no_hot_loop(benchmark):
    raise AssertionError

def test_no_benchmark():
    raise AssertionError
"""


# The statistics


def test_the_ratio_is_that_of_the_sessions_medians_and_equal_sessions_leave_no_doubt() -> None:
    session = [math.log(1.1), math.log(1.2), math.log(5.0)]  # one pair was disturbed
    found = estimate([session] * 4, num_benchmarks=1)
    assert (1.2, 1.2, 1.2) == pytest.approx((found.ratio, found.low, found.high))


def test_the_interval_is_about_students_over_the_sessions() -> None:
    """Logarithms 0.06, 0.08, 0.10, 0.12, 0.14: mean 0.1, standard error 0.0316 / √5 = 0.0141, t(4) = 2.78."""
    found = estimate([[value] for value in (0.06, 0.08, 0.10, 0.12, 0.14)], num_benchmarks=1)
    half = 2.78 * 0.0141
    assert math.exp(0.1) == pytest.approx(found.ratio)
    assert (-half, half) == pytest.approx((math.log(found.low) - 0.1, math.log(found.high) - 0.1), rel=0.1)


def test_more_benchmarks_widen_each_ones_interval_and_a_single_session_tells_nothing() -> None:
    sessions = [[0.06], [0.08], [0.10], [0.12], [0.14]]
    alone, among_five = estimate(sessions, 1), estimate(sessions, 5)
    assert among_five.low < alone.low < alone.high < among_five.high
    assert RatioEstimate(1.0, 0.0, math.inf) == estimate([[0.0, 0.0]], 1)
    with pytest.raises(ValueError, match="there are no sessions"):
        estimate([], 1)


@pytest.mark.parametrize(
    ("low", "high", "judgement"),
    [
        (1.06, 1.2, Judgement.WORSE),
        (1.04, 1.2, Judgement.CANNOT_TELL),
        (0.9, 1.06, Judgement.CANNOT_TELL),
        (0.9, 1.04, Judgement.NOT_WORSE),
        (1.01, 1.04, Judgement.NOT_WORSE),  # slower, but by less than the threshold
        (0.8, 0.9, Judgement.BETTER),
    ],
)
def test_a_judgement_needs_the_whole_interval_on_one_side(low: float, high: float, judgement: Judgement) -> None:
    assert judgement == judge(RatioEstimate(1.0, low, high), threshold=1.05)


def test_a_turns_typical_time_is_the_lower_quartile() -> None:
    assert 2.0 == typical([9.0, 1.0, 2.0, 3.0, 4.0])
    assert 1.0 == typical([9.0, 2.0, 1.0])  # a preempted call among a few
    assert 9.0 == typical([9.0])


# A made tree


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607 - on the PATH


def made_tree(folder: Path, before: str = BEFORE, now: str = NOW, benchmarks: str = BENCHMARKS) -> Path:
    """A repository with a package called fedbench, whose working tree is ahead of its only commit."""
    (folder / "fedbench").mkdir(parents=True)
    (folder / "fedbench" / "__init__.py").touch()
    (folder / "fedbench" / "work.py").write_text(before)
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "test_made.py").write_text(benchmarks)
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "before")
    (folder / "fedbench" / "work.py").write_text(now)
    return folder


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Take a made tree for the checkout; its benchmarks."""

    def used(tree: Path) -> Path:
        monkeypatch.setattr(trees, "PACKAGE", tree / "fedbench")
        monkeypatch.setattr(trees, "checkout", lambda: tree)
        monkeypatch.setattr(speed, "SESSION_SECONDS", 0.1)
        return tree / "benchmarks"

    return used


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> SpeedCheck:
    tree = made_tree(tmp_path_factory.mktemp("made") / "tree")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "PACKAGE", tree / "fedbench")
        patch.setattr(trees, "checkout", lambda: tree)
        patch.setattr(speed, "SESSION_SECONDS", 0.1)
        return check_against("HEAD", 60, benchmarks=tree / "benchmarks")


def by_name(checked: SpeedCheck) -> dict[str, BenchmarkCheck]:
    return {each.name: each for each in checked.benchmarks}


@pytest.mark.slow
def test_a_planted_sleep_is_caught_and_its_neighbour_is_not(checked: SpeedCheck) -> None:
    slower, same = by_name(checked)["slower"], by_name(checked)["same"]
    assert Judgement.WORSE is slower.judgement
    assert same.judgement in (Judgement.NOT_WORSE, Judgement.CANNOT_TELL)  # it is left unclear, now that one is slower
    assert (1.5, 1.0) == pytest.approx((slower.ratio, same.ratio), abs=0.1)
    assert slower.interval is not None
    assert checked.threshold < slower.interval[0] < slower.ratio < slower.interval[1]
    assert (0.002, 0.003) == pytest.approx((slower.before, slower.now), rel=0.2)
    assert ("HEAD", 40, "seconds") == (checked.against, len(checked.against_commit), checked.unit)


@pytest.mark.slow
def test_what_fails_now_is_worse_and_what_the_revision_does_not_have_cannot_be_told(checked: SpeedCheck) -> None:
    found = by_name(checked)
    assert {"slower", "same", "new", "wrong_answer", "untimed"} == found.keys()
    wrong, new, untimed = found["wrong_answer"], found["new"], found["untimed"]
    assert Judgement.WORSE == wrong.judgement
    assert "fails: AssertionError: assert 41 == 42" in str(wrong.reason)
    assert (Judgement.WORSE, "fails: it does not call the fixture benchmark") == (untimed.judgement, untimed.reason)
    assert Judgement.CANNOT_TELL == new.judgement
    assert "cannot be run in HEAD: AttributeError: module 'fedbench.work' has no attribute 'added'" == new.reason
    assert (0, True) == (new.samples, math.isnan(new.ratio))


@pytest.mark.slow
def test_what_is_not_clear_when_the_time_is_over_cannot_be_told(tmp_path: Path, use: Callable[[Path], Path]) -> None:
    benchmarks = use(made_tree(tmp_path / "tree"))
    (found,) = check_against("HEAD", 0.1, select="slower", benchmarks=benchmarks).benchmarks
    assert (Judgement.CANNOT_TELL, None) == (found.judgement, found.interval)
    assert "not clear after 1 sessions" == found.reason


@pytest.mark.slow
def test_a_selection_of_no_hot_loop_is_one_line_that_lists_them(tmp_path: Path, use: Callable[[Path], Path]) -> None:
    benchmarks = use(made_tree(tmp_path / "tree"))
    line = "--select hot: no such hot loop; there are slower, same, new, wrong_answer, untimed"
    with pytest.raises(BenchmarkError) as caught:
        check_against("HEAD", 10, select="hot", benchmarks=benchmarks)
    assert line == str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "line"),
    [
        ("def work(:", r"^--against HEAD: no benchmark can be run: .*SyntaxError: .*\(work.py, line 1\)$"),
        ("import no_such_module", r"^--against HEAD: no benchmark can be run: .*No module named 'no_such_module'$"),
        ("import os\nos._exit(7)", r"^--against HEAD: it cannot be run: its process ended with exit code 7: "),
    ],
    ids=["syntax", "import", "exit"],
)
def test_a_revision_that_does_not_build_is_one_line(
    before: str, line: str, tmp_path: Path, use: Callable[[Path], Path]
) -> None:
    benchmarks = use(made_tree(tmp_path / "tree", before=before))
    with pytest.raises(BenchmarkError, match=line):
        check_against("HEAD", 10, benchmarks=benchmarks)


@pytest.mark.slow
def test_a_process_that_imports_another_fedbench_is_refused(tmp_path: Path, use: Callable[[Path], Path]) -> None:
    benchmarks = use(made_tree(tmp_path / "tree"))
    with unpacked("HEAD", benchmarks) as both:
        (both.before / "fedbench").rename(both.before / "elsewhere")
        with pytest.raises(SideError, match=r"its fedbench is .*, which is another one"), processes(both, 0):
            pass


# Revisions


def test_a_revision_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    tree = made_tree(tmp_path / "tree")
    assert 40 == len(resolve("HEAD", tree))
    for wrong in ("nosuch", "--help", "HEAD:fedbench"):
        with pytest.raises(
            BenchmarkError, match=f"^--against {wrong}: no such revision: see git log, or git fetch it$"
        ):
            resolve(wrong, tree)


def test_without_a_checkout_a_repository_git_or_a_package_one_line_says_so(
    tmp_path: Path, use: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmarks = use(made_tree(tmp_path / "tree"))
    git(tmp_path / "tree", "rm", "-r", "--cached", "fedbench")
    git(tmp_path / "tree", "commit", "-m", "no package")
    with pytest.raises(BenchmarkError, match=r"^--against HEAD: it has no package fedbench: choose another "):
        check_against("HEAD", benchmarks=benchmarks)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()
    with pytest.raises(BenchmarkError, match=r"^--against needs the code in a git repository: git rev-parse in "):
        resolve("HEAD", tmp_path / "plain")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match=r"^--against needs git, which cannot be run: "):
        check_against("HEAD", benchmarks=benchmarks)
    monkeypatch.setattr(trees, "checkout", lambda: None)
    with pytest.raises(BenchmarkError, match=r"^this fedbench is not a checkout, which --against needs: clone"):
        check_against("HEAD", benchmarks=benchmarks)


def test_the_trees_are_those_of_the_revision_and_of_now_and_are_gone_in_the_end(
    tmp_path: Path, use: Callable[[Path], Path]
) -> None:
    benchmarks = use(made_tree(tmp_path / "tree"))
    with unpacked("HEAD", benchmarks) as both:
        texts = [(folder / "fedbench" / "work.py").read_text() for folder in (both.before, both.now)]
    assert [BEFORE, NOW] == texts
    assert not both.folder.exists()
    listed = subprocess.run(
        ["git", "worktree", "list"],  # noqa: S607 - git is found on the PATH
        cwd=tmp_path / "tree",
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1 == len(listed.stdout.splitlines())


# The end


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_no_process_and_no_file(number: signal.Signals, tmp_path: Path) -> None:
    tree, temporary = made_tree(tmp_path / "tree"), tmp_path / "temporary"
    temporary.mkdir()
    script = (
        "from pathlib import Path\n"
        "from fedbench.util.errors import InterruptedSuiteError\n"
        "from fedbench.gate import speed, trees\n"
        f"tree = Path({str(tree)!r})\n"
        "trees.PACKAGE, trees.checkout = tree / 'fedbench', lambda: tree\n"
        "speed.SESSION_SECONDS = 600\n"
        "try:\n"
        "    speed.check_against('HEAD', 600, benchmarks=tree / 'benchmarks')\n"
        "except InterruptedSuiteError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary), "FEDBENCH_TEST": str(tmp_path)}
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
        assert "nothing was judged; the same command measures anew\n" == out
        assert [] == list(temporary.iterdir())


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen in 30 seconds")


def marked(mark: str) -> Iterator[int]:
    """The processes that have `mark` in their environment, but for those of git."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours to look at
            if f"FEDBENCH_TEST={mark}" in (process / "environ").read_text(errors="replace"):
                yield int(process.name)


def test_once_one_is_slower_and_all_were_looked_at_the_others_are_left_as_they_are() -> None:
    looked_at = [[Pair(1.0, 1.06)]] * LEAST_SESSIONS
    slower = _Benchmark("step", "training", judgement=Judgement.WORSE)
    unclear = _Benchmark("round", "training", looked_at)
    assert _is_decided([slower, unclear])
    assert not _is_decided([slower, _Benchmark("round", "training", looked_at[1:])])
    assert not _is_decided([unclear])
