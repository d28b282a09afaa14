"""Progress on standard error: a bar on a terminal, sparse lines in a log, nothing at all for short work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedbench.util.text import printable

SHOW_AFTER_SECONDS = 2.0
LOG_EVERY_SECONDS = 15.0


@contextmanager
def progress(description: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
    """Show how much of `total` is done; yields ``advance(amount=1, note="")``.

    Parameters
    ----------
    description
        What is being done, in a few words: ``"decoding HAM10000"``.
    total
        How many units there are in all. For bytes, give ``unit="B"``.
    unit
        What is counted, for the lines in a log: ``"images"``, ``"runs"``, ``"B"``.
    """
    description = printable(description)
    show = _terminal if sys.stderr.isatty() else _log
    with show(description, total, unit) as advance:
        yield advance


@contextmanager
def _terminal(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if unit == "B" else MofNCompleteColumn()
    description_column, note_column = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = (description_column, BarColumn(), count, TimeRemainingColumn(), note_column)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(amount: int = 1, note: str = "") -> None:
            bar.update(task, advance=amount, note=printable(note))

        yield advance


@contextmanager
def _log(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    start = last = time.monotonic()
    done = 0

    def advance(amount: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - start >= SHOW_AFTER_SECONDS and now - last >= LOG_EVERY_SECONDS:
            last = now
            left = (now - start) / done * (total - done) if done else float("nan")
            line = f"{description}: {done}/{total} {unit} ({left:.0f} s left) {printable(note)}".rstrip()
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    yield advance
