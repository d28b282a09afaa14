"""Two processes that time the same benchmarks of two trees in turns: `fedbench.gate.lockstep_plugin` in each."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedbench.gate.trees import Trees

ANSWER_SECONDS = 60.0  # to import, to set up, to make the calls of a turn: whatever takes longer has failed
TURN_SECONDS = 0.01  # how long one process makes calls before it is the other one's turn; one call at least
MOST_CALLS = 1000  # in a turn
LEAST_PAIRS = 6  # of turns


class SideError(Exception):
    """A benchmark, or its whole process, failed on one side; the text is the reason in one line."""

    def __init__(self, side: Side, reason: str) -> None:
        super().__init__(reason)
        self.side = side


@dataclass
class Side:
    """One of the two processes.

    Attributes
    ----------
    names
        The benchmarks that it has, with the group of each.
    broken
        What it could not import, with the reason.
    """

    is_now: bool
    process: subprocess.Popen[bytes]
    commands: int
    answers: int
    log: Path
    names: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    unread: bytes = b""

    def ask(self, **command: object) -> None:
        """Send a command; `answer` waits for what comes back."""
        with suppress(BrokenPipeError):  # it has died; the answer says so
            os.write(self.commands, json.dumps(command).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        """The answer to the last command.

        Raises
        ------
        SideError
            If the benchmark failed, the process died, or it takes more than `ANSWER_SECONDS`.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self.unread:
            if not select.select([self.answers], [], [], max(deadline - time.monotonic(), 0))[0]:
                self.end()
                raise SideError(self, f"it did not end in {ANSWER_SECONDS:.0f} s")
            if not (some := os.read(self.answers, 1 << 16)):
                raise SideError(self, f"its process ended with exit code {self.process.wait()}: {self.last_words()}")
            self.unread += some
        line, _, self.unread = self.unread.partition(b"\n")
        answer = dict(json.loads(line))
        if "failed" in answer:
            raise SideError(self, str(answer["failed"]))
        return answer

    def last_words(self) -> str:
        """The last line that the process wrote to its log."""
        return (self.log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1].strip()[:300]

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def end(self) -> None:
        """Kill the process and all that it started: what it has written is in our temporary folder."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass(frozen=True)
class Pair:
    """Two turns, one after the other: `typical` seconds a call, before and now."""

    before: float
    now: float


@contextmanager
def processes(trees: Trees, number: int) -> Iterator[tuple[Side, Side]]:
    """Start both, each with its own tree's fedbench; they have ended at the end.

    Parameters
    ----------
    number
        Of the pair, from 0. It decides which one is started first, and is the seed of Python's hashes in both.

    Raises
    ------
    SideError
        If one cannot be started. What it merely cannot import is in `Side.broken`.
    """
    with ExitStack() as stack:
        order = (False, True) if number % 2 == 0 else (True, False)
        sides = {is_now: stack.enter_context(_started(trees, is_now, number)) for is_now in order}
        for side in sides.values():
            hello = side.answer()
            side.names, side.broken = hello["names"], hello["broken"]
            folder = trees.now if side.is_now else trees.before
            if hello["file"] and Path(hello["file"]).resolve().parents[1] != folder.resolve():
                raise SideError(side, f"its fedbench is {hello['file']}, which is another one: unset PYTHONPATH")
        _share_a_core(sides.values(), number)
        yield sides[False], sides[True]


def _share_a_core(sides: Iterable[Side], number: int) -> None:
    """Hold both to one core, another one in each pair of processes.

    They take turns anyway. Held to one core, both meet the same neighbours; left alone, one may spend a whole session
    beside a process that computes and the other not, and seem slower by a third.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        for side in sides:
            with suppress(OSError):  # it has died, which its next answer says; or it may not, and is measured as it is
                os.sched_setaffinity(side.process.pid, {cores[number % len(cores)]})


@contextmanager
def _started(trees: Trees, is_now: bool, number: int) -> Iterator[Side]:
    tree = trees.now if is_now else trees.before
    log = trees.folder / f"{tree.name}-{number}.log"
    their_commands, commands = os.pipe()
    answers, their_answers = os.pipe()
    side = None
    try:
        try:
            # -P: no folder that the command happens to be run in is imported from.
            arguments = [str(trees.plugin), str(their_commands), str(their_answers), str(trees.benchmarks)]
            with log.open("wb") as output:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    [sys.executable, "-P", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(tree, number),
                    cwd=trees.folder,
                    pass_fds=[their_commands, their_answers],
                    start_new_session=True,  # Ctrl-C is ours alone
                )
        finally:
            os.close(their_commands)
            os.close(their_answers)
        side = Side(is_now, process, commands, answers, log)
        yield side
    finally:
        if side is not None:
            side.end()
        os.close(commands)
        os.close(answers)


def _environment(tree: Path, number: int) -> dict[str, str]:
    """The environment without what would change pytest, and with the tree's fedbench before any other."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MLFLOW_TRACKING_"))}
    path = os.pathsep.join([str(tree), *filter(None, [kept.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": str(number)}


def time_in_turns(before: Side, now: Side, name: str, seconds: float, deadline: float) -> list[Pair]:
    """Time a benchmark on both sides, in the order A B B A, while the other side sleeps.

    Parameters
    ----------
    seconds
        How long, set-up left out. There are `LEAST_PAIRS` however long they take, but for the deadline.
    deadline
        Of `time.monotonic`: no pair is begun after it but the first.

    Raises
    ------
    SideError
        If it fails on one side; that of now if it fails on both. Neither process is of use then.
    """
    _begin(before, now, name)
    calls = min(max(round(TURN_SECONDS / max(_turn(side, 3) for side in (now, before))), 1), MOST_CALLS)
    pairs: list[Pair] = []
    start = time.monotonic()
    while not pairs or _goes_on(len(pairs), start + seconds, deadline):
        order = (before, now) if len(pairs) % 2 == 0 else (now, before)
        times = {side.is_now: _turn(side, calls) for side in order}
        pairs.append(Pair(times[False], times[True]))
    for side in (now, before):
        side.ask(finish=True)
        side.answer()
    return pairs


def _goes_on(number: int, end: float, deadline: float) -> bool:
    return time.monotonic() < deadline and (number < LEAST_PAIRS or time.monotonic() < end)


def _begin(before: Side, now: Side, name: str) -> None:
    """Set up on both sides at once. If it fails before, see whether it can be called now."""
    for side in (before, now):
        side.ask(begin=name)
    now.answer()
    try:
        before.answer()
    except SideError:
        now.ask(finish=True)
        now.answer()
        raise


def _turn(side: Side, calls: int) -> float:
    """Typical seconds of so many calls."""
    side.ask(calls=calls)
    return typical(side.answer()["seconds"])


def typical(seconds: Sequence[float]) -> float:
    """The lower quartile, rounded down: of up to four calls the quickest.

    What disturbs a call makes it slower, so that the quicker calls are the more alike. What the code itself does in
    every call is in them all.
    """
    return sorted(seconds)[(len(seconds) - 1) // 4]
