"""Processes that compute: Ctrl-C is their parent's affair, they end with it, and how one died can be said."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from threading import Thread
from types import FrameType


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """Keep a signal until the end; processes that are started meanwhile never get it.

    Ctrl-C reaches every process of a command, and the first of them decides what it means.
    """
    resource_tracker.ensure_running()  # else it is started with the first process, and lets the signal through
    held: list[tuple[int, FrameType | None]] = []
    handler = signal.signal(number, lambda *arguments: held.append(arguments))  # it may reach another thread
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})  # which is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.signal(number, handler)
        if held and callable(handler):
            handler(*held[0])


def end_with_parent() -> None:
    """End this process when its parent does, even if that is killed in the middle of a long round."""
    Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def how_it_died(code: int) -> str:
    """What a process's exit code says, in words."""
    return f"signal {signal.Signals(-code).name}, perhaps for want of memory" if code < 0 else f"exit code {code}"
