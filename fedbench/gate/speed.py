"""Whether the code has become slower: the hot loops of a revision and of the working tree, timed in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

from fedbench.bench.run import PACKAGE, WORKLOADS, checkout
from fedbench.gate.checks import BenchmarkCheck, Judgement, SpeedCheck
from fedbench.gate.trees import Trees, unpacked
from fedbench.gate.turns import Pair, Side, SideError, sides, time_in_turns
from fedbench.stats import RatioEstimate, estimate_ratio
from fedbench.util.environment import machine_name
from fedbench.util.errors import BenchmarkError, InterruptedSuiteError
from fedbench.util.progress import phase, progress

THRESHOLD = 1.05  # a benchmark that takes this much longer is slower
MAX_SECONDS = 240.0  # for how long an unclear benchmark is timed
LEAST_SESSIONS = 4  # pairs of processes before anything is judged
SESSION_SECONDS = 1.0  # for one benchmark in one session, without set-up


@dataclass
class _Benchmark:
    """What is known of a benchmark so far."""

    name: str
    group: str
    sessions: list[list[Pair]] = field(default_factory=list)
    judgement: Judgement | None = None
    reason: str | None = None

    def estimate(self, number: int) -> RatioEstimate:
        """The ratio of times, one of `number` benchmarks."""
        return estimate_ratio([[math.log(p.now / p.before) for p in session] for session in self.sessions], number)


def check_against(
    revision: str,
    max_seconds: float = MAX_SECONDS,
    package: Path = PACKAGE,
    workloads: Path = WORKLOADS,
    session_seconds: float = SESSION_SECONDS,
) -> SpeedCheck:
    """Time the hot loops of `revision` and of the working tree in turns, until it is clear which are slower.

    Every workload that is not `only_in_bench` is measured in `LEAST_SESSIONS` sessions, each with new processes, and
    then on, until its interval (`fedbench.stats.estimate_ratio`) shows that it is slower than `THRESHOLD`, or that it
    is not. What is unclear after `max_seconds`, or when another one is found to be slower, is ``inconclusive``. No
    timing is begun later, except the first of each benchmark; a call that does not end gets a minute.

    A benchmark that fails now is ``worse``, with the reason; one that fails in the revision, because it uses what the
    revision lacks, is ``inconclusive``. Neither has a time: ``ratio``, ``before`` and ``now`` are NaN.

    Raises `BenchmarkError` if there is no such revision, or nothing of it or of the working tree can be timed. After
    Ctrl-C the processes have ended and their files are removed.
    """
    if package == PACKAGE and checkout() is None:
        raise BenchmarkError(
            "--against compares the code of a suite's own parts: name the suite; fedbench itself is compared in a "
            "checkout of it"
        )
    both = unpacked(revision, package.parent, workloads, package)
    return compare(both, revision, max_seconds, session_seconds, all_new=False)


def compare(
    both: AbstractContextManager[Trees],
    revision: str,
    max_seconds: float,
    session_seconds: float = SESSION_SECONDS,
    all_new: bool = True,
) -> SpeedCheck:
    """Time the workloads of two trees in turns; see `check_against`.

    `both` unpacks them (`fedbench.gate.trees.unpacked`); `all_new`: it may be that none can be timed in the revision.
    """
    start = time.monotonic()
    try:
        with _shown_until(start + max_seconds) as note:
            phase("unpacking the revision")
            with both as trees:
                found = _measure(trees, revision, start + max_seconds, session_seconds, note)
    except KeyboardInterrupt:
        raise InterruptedSuiteError("nothing was judged; the same command starts over") from None
    failures = [each.reason for each in found if each.judgement is Judgement.INCONCLUSIVE and each.reason]
    if len(failures) == len(found) and not all_new:
        raise BenchmarkError(f"--against {revision}: no benchmark can be run: {failures[0].partition(': ')[2]}")
    checks = tuple(_check(each, len(found)) for each in found)
    seconds = time.monotonic() - start
    return SpeedCheck(revision, trees.commit, THRESHOLD, machine_name(), checks, seconds)


def _measure(
    trees: Trees, revision: str, deadline: float, session_seconds: float, note: Callable[[str], None]
) -> list[_Benchmark]:
    """Session after session until all is clear or the time is over."""
    found: list[_Benchmark] = []
    last = 0.0  # how long the last session took
    for number in count():
        start = time.monotonic()
        if number and (start + last > deadline or not _unclear(found) or _is_decided(found)):
            break
        phase("starting both versions")
        try:
            with sides(trees, number) as (before, now):
                phase("timing")
                found = found or _benchmarks(before, now, revision)
                _session(before, now, revision, found, deadline, session_seconds, note)
        except SideError as error:  # of a whole process, not of a benchmark
            what = "the working tree" if error.side.is_now else f"--against {revision}: it"
            raise BenchmarkError(f"{what} cannot be run: {error}") from None
        last = time.monotonic() - start
        for each in _unclear(found):
            if len(each.sessions) >= LEAST_SESSIONS:
                judgement = judge(each.estimate(len(found)), THRESHOLD)
                each.judgement = None if judgement is Judgement.INCONCLUSIVE else judgement
    return found


def judge(found: RatioEstimate, threshold: float) -> Judgement:
    """What the interval shows: slower than the threshold, faster than its reciprocal, or not slower."""
    if found.low > threshold:
        return Judgement.WORSE
    if found.high < 1 / threshold:
        return Judgement.BETTER
    return Judgement.NOT_WORSE if found.high < threshold else Judgement.INCONCLUSIVE


def _unclear(found: list[_Benchmark]) -> list[_Benchmark]:
    return [each for each in found if each.judgement is None]


def _is_decided(found: list[_Benchmark]) -> bool:
    """Whether every benchmark was measured often enough and one is slower: the check fails whatever the others do."""
    was_measured = all(len(each.sessions) >= LEAST_SESSIONS for each in _unclear(found))
    return was_measured and any(each.judgement is Judgement.WORSE for each in found)


def _benchmarks(before: Side, now: Side, revision: str) -> list[_Benchmark]:
    found = [_Benchmark(name, group) for name, group in now.groups.items()]
    if not found:
        raise BenchmarkError("there is no benchmark to compare")
    for each in found:
        if each.name not in before.groups:
            each.judgement, each.reason = Judgement.INCONCLUSIVE, _not_before(revision, "it does not exist there")
    return found


def _not_before(revision: str, why: str) -> str:
    return f"cannot be run in {revision}: {why}"


def _session(
    before: Side,
    now: Side,
    revision: str,
    found: list[_Benchmark],
    deadline: float,
    seconds: float,
    note: Callable[[str], None],
) -> None:
    """Time what is unclear, until one fails whose processes are no longer in step."""
    for each in _unclear(found):
        if each.sessions and time.monotonic() > deadline:
            break
        note(each.name)
        try:
            each.sessions.append(time_in_turns(before, now, each.name, seconds, deadline))
        except SideError as error:
            is_now = error.side.is_now
            each.judgement = Judgement.WORSE if is_now else Judgement.INCONCLUSIVE
            each.reason = f"fails: {error}" if is_now else _not_before(revision, str(error))
            if not error.others_can_run:
                break


def _check(each: _Benchmark, number: int) -> BenchmarkCheck:
    pairs = [pair for session in each.sessions for pair in session]
    judgement = each.judgement or Judgement.INCONCLUSIVE
    if each.reason or not pairs:
        reason = each.reason or "there was no time to measure it: give it more"
        return BenchmarkCheck(each.name, each.group, math.nan, None, math.nan, math.nan, 0, judgement, reason)
    ratio = each.estimate(number)
    return BenchmarkCheck(
        name=each.name,
        group=each.group,
        ratio=ratio.ratio,
        interval=(ratio.low, ratio.high) if len(each.sessions) > 1 else None,
        before=median(pair.before for pair in pairs),
        now=median(pair.now for pair in pairs),
        samples=len(pairs),
        judgement=judgement,
        reason=None if each.judgement else f"not clear after {len(each.sessions)} sessions",
    )


@contextmanager
def _shown_until(deadline: float) -> Iterator[Callable[[str], None]]:
    """Show how much of the time is over; yields a function that takes the name of what is being timed."""
    total = max(round(deadline - time.monotonic()), 1)
    with progress("comparing", total, "seconds at most") as advance:
        shown = 0

        def note(name: str) -> None:
            nonlocal shown
            over = min(round(total - (deadline - time.monotonic())), total)
            advance(over - shown, name)
            shown = over

        yield note
