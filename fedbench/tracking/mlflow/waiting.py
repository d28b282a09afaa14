"""Waiting for a store that is away: a line when it begins and one when it ends, and Ctrl-C ends it within seconds."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from fedbench.util.errors import StoreError

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 3.0  # that a server has to answer what it was asked, once the command was interrupted

Interruption = tuple[int, FrameType | None]


@dataclass
class _Absence:
    """What is waited for in this process.

    Attributes
    ----------
    place
        The store that does not answer; None if nothing is waited for.
    since
        When that began, in seconds of the monotonic clock.
    given_up
        Whether the command is ending because of it: then no store that is away is asked again.
    held
        Interruptions that came while a store was used.
    """

    place: str | None = None
    since: float = 0.0
    given_up: bool = False
    held: list[Interruption] = field(default_factory=list)


_absence = _Absence()
_handlers: dict[signal.Signals, object] = {}  # those of the command, while a store is used


def is_away() -> bool:
    """Whether a store is waited for."""
    return _absence.place is not None


def seconds_away() -> float:
    """How long it has been."""
    return time.monotonic() - _absence.since if is_away() else 0.0


def begin_waiting(place: str, problem: str = "does not answer") -> None:
    """Say so, if it is not said yet; an interruption that was held back comes now."""
    if not is_away():
        _absence.place, _absence.since = place, time.monotonic()
        _say(f"{place} {problem}: waiting for it; Ctrl-C ends, and the same command goes on later")
    if _absence.held and threading.current_thread() is threading.main_thread():
        _interrupt(*_absence.held[0])


def end_waiting() -> None:
    """Say that the store is back, if it was away."""
    if is_away():
        _say(f"{_absence.place} answers again, after {seconds_away():.0f} s")
        _absence.place = None


def give_up() -> None:
    """Nothing more is asked of a store that is away: the command ends."""
    _absence.given_up = is_away()


def begin_anew() -> None:
    """Forget what was away: a store is opened."""
    _absence.place, _absence.given_up = None, False


def require_not_given_up() -> None:
    """Refuse to use a store that is away once it was given up.

    Raises
    ------
    StoreError
        If it was.
    """
    if _absence.given_up:
        raise StoreError(f"{_absence.place} did not answer: start it, then the same command goes on from here")


def _say(message: str) -> None:
    if multiprocessing.parent_process() is None:  # else the command itself says so
        sys.stderr.write(f"fedbench: {message}\n")
        sys.stderr.flush()


@contextmanager
def uninterrupted(asks_a_server: bool) -> Iterator[None]:
    """Hold SIGINT and SIGTERM back: a write that is broken off can leave a run half recorded, or a lock behind.

    While a store is away they are not held back, and a server has a few seconds to answer.
    """
    if threading.current_thread() is not threading.main_thread() or _handlers:
        yield  # signals reach the main thread only; they are held back already
        return
    timers: list[threading.Timer] = []

    def hold(number: int, frame: FrameType | None) -> None:
        _absence.held.append((number, frame))
        if is_away() or (asks_a_server and len(_absence.held) > 1):
            _interrupt(number, frame)
        elif asks_a_server:  # to this thread, whose system call it ends
            main = threading.main_thread().ident
            timers.append(threading.Timer(GRACE_SECONDS, signal.pthread_kill, (main, number)))
            timers[0].daemon = True
            timers[0].start()

    _absence.held.clear()
    _handlers.update({each: signal.signal(each, hold) for each in INTERRUPTIONS})
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in list(_handlers.items()):
            signal.signal(number, handler)  # type: ignore[arg-type]
        held, handlers = list(_absence.held), dict(_handlers)
        _absence.held.clear()
        _handlers.clear()
        if held and callable(handler := handlers[signal.Signals(held[0][0])]):
            handler(*held[0])


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do now what the command does when it is interrupted."""
    give_up()
    _absence.held.clear()
    if callable(handler := _handlers.get(signal.Signals(number))):
        handler(number, frame)
