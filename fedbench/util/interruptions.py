"""Interruptions (Ctrl-C, SIGTERM, SIGHUP) that wait for what must not be broken off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Signals by which somebody asks to end. SIGHUP comes when a terminal is closed.
REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put an interruption off to the end of the block; a second one comes at once. In the main thread alone."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            signal.default_int_handler(number, frame)
        came = True

    interrupting = []
    if threading.current_thread() is threading.main_thread():
        interrupting = [number for number in REQUESTS if signal.getsignal(number) is signal.default_int_handler]
    for number in interrupting:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in interrupting:
            signal.signal(number, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
