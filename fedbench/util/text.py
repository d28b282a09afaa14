"""Text for people: one line of any text, durations in the unit that fits."""

from __future__ import annotations

UNITS = ((5400, 3600, "h"), (90, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"), (1e-6, 1e-6, "µs"), (0, 1e-9, "ns"))


def one_line(text: object) -> str:
    """The text on one line; what a terminal must not be sent is escaped."""
    joined = " ".join(str(text).split())
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in joined)


def duration(seconds: float, digits: int = 3) -> str:
    """Seconds with so many digits, in the unit that fits: ``4.31 ms``, or ``2.5 h`` with two digits."""
    scale, unit = next((scale, unit) for least, scale, unit in UNITS if seconds >= least)
    value = seconds / scale
    return f"{value:.{max(0, digits - len(str(int(value))))}f} {unit}"
