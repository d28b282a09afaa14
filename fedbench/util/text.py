"""Text for people: one line of any text, values and choices in messages, durations in the unit that fits."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection
from difflib import get_close_matches

UNITS = ((5400, 3600, "h"), (90, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"), (1e-6, 1e-6, "µs"), (0, 1e-9, "ns"))


LONGEST_LINE = 900  # characters
MANY = 10  # names that a message lists
PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/]*@")  # in a URL


def printable(text: str) -> str:
    """The text as a terminal may be sent it: one line of bounded length, control characters escaped, no password."""
    if text.isprintable() and len(text) <= LONGEST_LINE and "://" not in text:
        return text
    joined = PASSWORD.sub(r"\1:***@", " ".join(line.strip() for line in text.splitlines()))
    if len(joined) > LONGEST_LINE:
        joined = f"{joined[: LONGEST_LINE - 100]} ... {joined[-90:]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in joined)


def one_line(text: object) -> str:
    """Any text on one line, with single spaces; see `printable`."""
    return printable(" ".join(str(text).split()))


def duration(seconds: float, digits: int = 3) -> str:
    """Seconds with so many digits, in the unit that fits: ``4.31 ms``, or ``2.5 h`` with two digits."""
    scale, unit = next((scale, unit) for least, scale, unit in UNITS if seconds >= least)
    value = seconds / scale
    return f"{value:.{max(0, digits - len(str(int(value))))}f} {unit}"


def show(value: object) -> str:
    """Write a value as YAML does, short enough for one line of an error message."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)


def unknown(kind: str, value: object, valid: Collection[str], see: str = "") -> str:
    """Say that `value` is not one of `valid`, which are nearest, and which there are.

    Of more than `MANY` it names the nearest ones and the command `see`, if there is one, that lists all.
    """
    too_many = bool(see) and len(valid) > MANY
    nearest = get_close_matches(str(value)[:100], list(valid), n=3 if too_many else 1)
    hint = f"did you mean {any_of(nearest)}? " if nearest else ""
    if too_many:
        return f"unknown {kind} {show(value)}; {hint}see all {len(valid)} with: {see}"
    return f"unknown {kind} {show(value)}; {hint}choose from {', '.join(valid) or 'nothing yet'}"


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,200 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def any_of(names: Collection[str]) -> str:
    """``a, b or c``."""
    *others, last = names
    return f"{', '.join(others)}{' or ' if others else ''}{last}"
