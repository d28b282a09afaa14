"""Whether the code has become slower: the hot loops of a revision and of the working tree, timed in turns."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

from fedbench.bench.pytest_run import require_pytest
from fedbench.bench.yardsticks import usable_cores
from fedbench.gate.bootstrap import estimate, judge
from fedbench.gate.checks import BenchmarkCheck, Judgement, SpeedCheck
from fedbench.gate.environment import processor_entries
from fedbench.gate.lockstep import Pair, Side, SideError, processes, time_in_turns
from fedbench.gate.trees import Trees, unpacked
from fedbench.util.errors import BenchmarkError, InterruptedSuiteError
from fedbench.util.progress import progress

THRESHOLD = 1.05  # a benchmark that takes this much longer is slower
MAX_SECONDS = 240.0  # so long is timed what is not clear
LEAST_SESSIONS = 4  # pairs of processes before anything is judged
SESSION_SECONDS = 1.0  # for one benchmark in one session, set-up left out

GROUPS = ("averaging", "training", "evaluation")  # the hot loops
LEFT_OUT = (  # beginnings of names: of those that say nothing that a quicker one does not say
    "average_model_parameters",
    "client_update",
    "weighted_average[paper-cnn-100]",
    "weighted_average[paper-cnn-2]",
    "weighted_average[resnet50",
    "weighted_average[simple-cnn-100]",
)


@dataclass
class _Benchmark:
    """What is known of a benchmark so far."""

    name: str
    group: str
    sessions: list[list[Pair]] = field(default_factory=list)
    judgement: Judgement | None = None
    reason: str | None = None

    @property
    def logarithms(self) -> list[list[float]]:
        """For each session, those of the ratios of its pairs."""
        return [[math.log(pair.now / pair.before) for pair in session] for session in self.sessions]


def check_against(
    revision: str, max_seconds: float = MAX_SECONDS, select: str | None = None, benchmarks: Path | None = None
) -> SpeedCheck:
    """Time the hot loops of `revision` and of the working tree in turns, until it is clear which are slower.

    Every benchmark is measured in `LEAST_SESSIONS` sessions, each a new pair of processes, and then on, until its
    interval (see `fedbench.gate.bootstrap.estimate`) shows that it is slower than `THRESHOLD`, or that it is not.
    What is not clear after `max_seconds`, or when another one is found to be slower, is ``can't tell``.

    A benchmark that fails now is ``worse``, with the reason; one that fails in the revision, as one that uses what the
    revision does not have, is ``can't tell``. Neither has a time: `BenchmarkCheck.ratio`, ``before`` and ``now`` are
    NaN, and ``samples`` is 0.

    Parameters
    ----------
    revision
        Anything that git can resolve to a commit.
    max_seconds
        No timing is begun later but the first of each benchmark. A call that does not end is given a minute.
    select
        Measure the hot loops whose name or group has this text in it. None: all.
    benchmarks
        Where the benchmarks are, if not in `shipped_benchmarks`.

    Raises
    ------
    BenchmarkError
        If there is no such revision, nothing of it or of the working tree can be timed, or nothing is selected.
    InterruptedSuiteError
        After Ctrl-C. No process and no file is left.
    """
    require_pytest()
    start = time.monotonic()
    try:
        with unpacked(revision, benchmarks) as trees:
            found = _measure(trees, revision, select, start + max_seconds)
    except KeyboardInterrupt:
        raise InterruptedSuiteError("nothing was judged; the same command measures anew") from None
    checks = tuple(_check(each, len(found)) for each in found)
    return SpeedCheck(
        revision, trees.commit, THRESHOLD, "seconds", _machine(), checks, seconds=time.monotonic() - start
    )


def _measure(trees: Trees, revision: str, select: str | None, deadline: float) -> list[_Benchmark]:
    """Session after session until all is clear or the time is over."""
    found: list[_Benchmark] = []
    last = 0.0  # how long the last session took
    with _shown_until(deadline) as note:
        for number in count():
            start = time.monotonic()
            if number and (start + last > deadline or not _unclear(found) or _is_decided(found)):
                break
            try:
                with processes(trees, number) as (before, now):
                    found = found or _selected(before, now, revision, select)
                    _session(before, now, revision, found, deadline, note)
            except SideError as error:  # not of a benchmark: of a whole process
                what = "the working tree" if error.side.is_now else f"--against {revision}: it"
                raise BenchmarkError(f"{what} cannot be run: {error}") from None
            last = time.monotonic() - start
            for each in _unclear(found):
                if len(each.sessions) >= LEAST_SESSIONS:
                    judgement = judge(estimate(each.logarithms, len(found)), THRESHOLD)
                    each.judgement = None if judgement is Judgement.CANNOT_TELL else judgement
    failures = [each.reason for each in found if each.judgement is Judgement.CANNOT_TELL and each.reason]
    if len(failures) == len(found):
        raise BenchmarkError(f"--against {revision}: no benchmark can be run: {failures[0].partition(': ')[2]}")
    return found


def _unclear(found: list[_Benchmark]) -> list[_Benchmark]:
    return [each for each in found if each.judgement is None]


def _is_decided(found: list[_Benchmark]) -> bool:
    """Whether all has been looked at and one is slower for certain: the others can only fail as well."""
    has_looked = all(len(each.sessions) >= LEAST_SESSIONS for each in _unclear(found))
    return has_looked and any(each.judgement is Judgement.WORSE for each in found)


def _selected(before: Side, now: Side, revision: str, select: str | None) -> list[_Benchmark]:
    """The hot loops that both trees have, and, judged already, what one of them has not."""
    if "fedbench" in now.broken:
        raise BenchmarkError(f"the working tree cannot be run: {now.broken['fedbench']}")
    if "fedbench" in before.broken:
        raise BenchmarkError(f"--against {revision}: it cannot be run: {before.broken['fedbench']}")
    broken = [
        _Benchmark(name, "", judgement=Judgement.WORSE, reason=f"fails: {reason}")
        for name, reason in now.broken.items()
    ]
    hot = {name: group for name, group in now.names.items() if group in GROUPS and not name.startswith(LEFT_OUT)}
    text = (select or "").lower()
    kept = [_Benchmark(name, group) for name, group in hot.items() if text in name.lower() or text in group]
    if not kept and not broken:
        raise BenchmarkError(f"--select {select}: no such hot loop; there are {', '.join(hot) or 'none'}")
    for each in kept:
        if each.name not in before.names:
            each.judgement = Judgement.CANNOT_TELL
            each.reason = _not_before(revision, "; ".join(dict.fromkeys(before.broken.values())))
    return kept + broken


def _not_before(revision: str, why: str) -> str:
    return f"cannot be run in {revision}: {why or 'it is not there'}"


def _session(
    before: Side, now: Side, revision: str, found: list[_Benchmark], deadline: float, note: Callable[[str], None]
) -> None:
    """Time what is not clear yet, until one fails: then its processes are of no more use."""
    for each in _unclear(found):
        if each.sessions and time.monotonic() > deadline:
            break
        note(each.name)
        try:
            each.sessions.append(time_in_turns(before, now, each.name, SESSION_SECONDS, deadline))
        except SideError as error:
            is_now = error.side.is_now
            each.judgement = Judgement.WORSE if is_now else Judgement.CANNOT_TELL
            each.reason = f"fails: {error}" if is_now else _not_before(revision, str(error))
            break


def _check(each: _Benchmark, number: int) -> BenchmarkCheck:
    """What is known in the end."""
    pairs = [pair for session in each.sessions for pair in session]
    if each.reason or not pairs:
        reason = each.reason or "there was no time to measure it: give it more"
        judgement = each.judgement or Judgement.CANNOT_TELL
        return BenchmarkCheck(each.name, each.group, math.nan, None, math.nan, math.nan, 0, judgement, reason)
    ratio = estimate(each.logarithms, number)
    return BenchmarkCheck(
        name=each.name,
        group=each.group,
        ratio=ratio.ratio,
        interval=(ratio.low, ratio.high) if len(each.sessions) > 1 else None,
        before=median(pair.before for pair in pairs),
        now=median(pair.now for pair in pairs),
        samples=len(pairs),
        judgement=each.judgement or Judgement.CANNOT_TELL,
        reason=None if each.judgement else f"not clear after {len(each.sessions)} sessions",
    )


@contextmanager
def _shown_until(deadline: float) -> Iterator[Callable[[str], None]]:
    """Show how much of the time is over; yields what is to be called with the name of what is being timed."""
    total = max(round(deadline - time.monotonic()), 1)
    with progress("comparing", total, "seconds at most") as advance:
        shown = 0

        def note(name: str) -> None:
            nonlocal shown
            over = min(round(total - (deadline - time.monotonic())), total)
            advance(over - shown, name)
            shown = over

        yield note


def _machine() -> str:
    """The processor's name and how many cores may be used."""
    name = processor_entries().get("model name", "")
    return f"{name or platform.processor() or platform.machine()}, {usable_cores()} cores"
