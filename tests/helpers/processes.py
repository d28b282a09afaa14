"""The processes that a test has started, however deep: they inherit a mark in their environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

MARK = "FEDBENCH_TEST"


def marked(mark: str) -> Iterator[int]:
    """The processes with the value `mark` of the variable `MARK`."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if f"{MARK}={mark}" in (process / "environ").read_text(errors="replace"):
                yield int(process.name)


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen in 30 seconds")
