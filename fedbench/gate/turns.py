"""Two processes that time the same workload of two trees in turns: `fedbench.gate.turns_worker` in each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fedbench.bench.process import Child, child
from fedbench.gate.trees import Trees

ANSWER_SECONDS = 60.0  # to import, to set up, to make the calls of a turn: what takes longer has failed
TURN_SECONDS = 0.01  # how long one process makes calls before the other's turn; one call at least
MOST_CALLS = 1000  # in a turn
SLOW_SECONDS = 1.0  # a call that takes as long is made once to find out how long it takes
LEAST_PAIRS = 6  # of turns


class SideError(Exception):
    """A workload, or its whole process, failed on one side; the text is the reason in one line.

    `others_can_run`: whether both processes wait for the next workload.
    """

    def __init__(self, side: Side, reason: str) -> None:
        super().__init__(reason)
        self.side = side
        self.others_can_run = False


@dataclass
class Side:
    """One of the two processes. `groups` has the group of each of its workloads."""

    is_now: bool
    process: Child
    groups: Mapping[str, str]

    def ask(self, **command: object) -> None:
        """Send a command; `answer` waits for the answer."""
        self.process.ask(**command)

    def answer(self) -> dict[str, Any]:
        """The answer to the last command.

        Raises `SideError` if the workload failed, the process died, or it takes more than `ANSWER_SECONDS`.
        """
        try:
            answer = self.process.answer(ANSWER_SECONDS)
        except TimeoutError as error:
            self.process.end()
            raise SideError(self, str(error)) from None
        if answer is None:
            raise SideError(self, f"its process ended with {self.process.last_words()}")
        if "failed" in answer:
            raise SideError(self, str(answer["failed"]))
        return answer


@dataclass(frozen=True)
class Pair:
    """Two consecutive turns: `typical` seconds per call, before and now."""

    before: float
    now: float


@contextmanager
def sides(trees: Trees, number: int) -> Iterator[tuple[Side, Side]]:
    """Start both processes, each in its own tree: before, now. They end at the end.

    The number of the pair, from 0, decides which one starts first, and is the seed of Python's hashes in both. Raises
    `SideError` if one cannot import its fedbench, or imports another one.
    """
    with ExitStack() as stack:
        started = {}
        for is_now in (False, True) if number % 2 == 0 else (True, False):
            tree = trees.now if is_now else trees.before
            log, variables = trees.folder / f"{tree.name}-{number}.log", {"PYTHONHASHSEED": str(number)}
            search = [tree / each for each in trees.search]
            process = stack.enter_context(child([str(trees.worker)], log, search, variables, tree / trees.working))
            started[is_now] = Side(is_now, process, {})
            started[is_now].ask(start=str(trees.workloads), tree=str(tree), home=str(tree / trees.home))
        for side in started.values():
            side.groups = side.answer()["groups"]
        _share_a_core(started.values(), number)
        yield started[False], started[True]


def _share_a_core(both: Iterable[Side], number: int) -> None:
    """Pin both processes to one core, another one in each pair of processes.

    They take turns anyway. On one core both have the same neighbours; otherwise one may spend a whole session next to
    a busy process and the other not, and seem slower by a third.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        for side in both:
            with suppress(OSError):  # it has died, which its next answer says; or pinning is not allowed
                os.sched_setaffinity(side.process.process.pid, {cores[number % len(cores)]})


def time_in_turns(before: Side, now: Side, name: str, seconds: float, deadline: float) -> list[Pair]:
    """Time a workload on both sides, in the order A B B A, while the other side sleeps.

    It takes so many seconds, without set-up, and at least `LEAST_PAIRS` pairs; only the first pair is begun after the
    deadline of `time.monotonic`. Raises `SideError` if it fails on one side; that of now if it fails on both.
    """
    first = 3 if _begin(before, now, name) < SLOW_SECONDS else 1
    calls = min(max(round(TURN_SECONDS / max(_turn(side, first) for side in (now, before))), 1), MOST_CALLS)
    pairs: list[Pair] = []
    start = time.monotonic()
    while not pairs or _continues(len(pairs), start + seconds, deadline):
        order = (before, now) if len(pairs) % 2 == 0 else (now, before)
        times = {side.is_now: _turn(side, calls) for side in order}
        pairs.append(Pair(times[False], times[True]))
    for side in (now, before):
        side.ask(finish=True)
        side.answer()
    return pairs


def _continues(number: int, end: float, deadline: float) -> bool:
    return time.monotonic() < deadline and (number < LEAST_PAIRS or time.monotonic() < end)


def _begin(before: Side, now: Side, name: str) -> float:
    """Set up on both sides at once; seconds of a call. If that fails before, see whether the result is right now."""
    for side in (before, now):
        side.ask(begin=name)
    found: list[float] = now.answer()["seconds"]
    try:
        return typical(found + before.answer()["seconds"])
    except SideError as error:
        now.ask(finish=True)
        now.answer()
        error.others_can_run = before.process.process.poll() is None
        raise


def _turn(side: Side, calls: int) -> float:
    """Typical seconds of so many calls."""
    side.ask(calls=calls)
    return typical(side.answer()["seconds"])


def typical(seconds: Sequence[float]) -> float:
    """The lower quartile, rounded down: of up to four calls the fastest.

    Disturbances only make a call slower, so the faster calls vary less. What the code itself does is in every call.
    """
    return sorted(seconds)[(len(seconds) - 1) // 4]
