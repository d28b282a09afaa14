"""Progress on standard error: a bar on a terminal, sparse lines in a log, nothing at all for short work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from fedbench.util.garbage import without_garbage_collection
from fedbench.util.text import duration, printable

if TYPE_CHECKING:
    from rich.console import Console

SHOW_AFTER_SECONDS = 2.0
LOG_EVERY_SECONDS = 15.0

_open: list[Callable[..., None]] = []  # what shows the progress under way, the innermost last


def phase(name: str, seconds_left: float | None = None) -> None:
    """Say what the work under way does now, such as ``reading data``, wherever its progress is shown.

    `seconds_left` is how long it will take to the end, where that is better known than from the number of units.
    """
    if _open:
        _open[-1](0, phase=name, seconds_left=seconds_left)


@contextmanager
def progress(description: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
    """Show how much of `total` is done; yields ``advance(amount=1, note="")``.

    Parameters
    ----------
    description
        What is being done, in a few words: ``"decoding HAM10000"``.
    total
        How many units there are in all; 0: none are counted. For bytes, give ``unit="B"``.
    unit
        What is counted, for the lines in a log: ``"images"``, ``"runs"``, ``"B"``.
    """
    description = printable(description)
    show = _terminal if sys.stderr.isatty() else _log
    with show(description, total, unit) as advance:
        _open.append(advance)
        try:
            yield advance
        finally:
            _open.pop()


@contextmanager
def loading(description: str, libraries: str) -> Iterator[None]:
    """Show that these libraries are imported in the block, which takes seconds."""
    with progress(description, 0), without_garbage_collection():
        phase(f"loading {libraries}")
        yield


@cache
def _console() -> Console:
    """One for all: of two displays the inner one is drawn below the outer."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def _terminal(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    from rich.progress import DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task
    from rich.text import Text

    console = _console()
    count = DownloadColumn() if unit == "B" else MofNCompleteColumn()

    class Line(ProgressColumn):
        """What fits on one line, whole: a number that is cut would be another one."""

        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            fields = task.fields
            left = fields["until"] - time.monotonic() if fields["until"] else task.time_remaining
            told = _about(left) if left and (fields["until"] or not fields["phase"]) else ""
            line = Text(description)
            number = count.render(task).plain.lstrip() if total else ""
            number += f" {unit}" if number and unit != "B" else ""
            for part in (number, fields["phase"], told, fields["note"]):
                if part and len(line) + len(part) + 6 < console.width:
                    line.append(f"  {part}")
            return line

    with Progress(SpinnerColumn(), Line(), console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, note="", phase="", until=None)

        def advance(amount: int = 1, note: str = "", phase: str = "", seconds_left: float | None = None) -> None:
            changes: dict[str, object] = {"note": printable(note)} if note else {}
            changes |= {"phase": phase} if phase else {}
            changes |= {} if seconds_left is None else {"until": time.monotonic() + seconds_left}
            bar.update(task, advance=amount, **changes)  # type: ignore[arg-type] # fields of ours

        yield advance


def _about(seconds: float) -> str:
    whole = max(round(seconds), 1)
    return f"about {f'{whole} s' if whole < 90 else duration(whole, 2)} left"


@contextmanager
def _log(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    start = last = time.monotonic()
    done, doing = 0, ""
    until: float | None = None

    def advance(amount: int = 1, note: str = "", phase: str = "", seconds_left: float | None = None) -> None:
        nonlocal done, doing, last, until
        done += amount
        doing = phase or doing
        now = time.monotonic()
        until = until if seconds_left is None else now + seconds_left
        if now - start < SHOW_AFTER_SECONDS or now - last < LOG_EVERY_SECONDS:
            return
        last = now
        by_count = (now - start) / done * (total - done) if done and not doing else None
        left = by_count if until is None else until - now
        state = ", ".join(filter(None, (doing, "" if left is None else _about(left))))
        number = f"{done}/{total} {unit}" if total else ""
        parts = (f"{description}:", number, f"({state})" if state else "", printable(note))
        sys.stderr.write(" ".join(filter(None, parts)) + "\n")
        sys.stderr.flush()

    yield advance
