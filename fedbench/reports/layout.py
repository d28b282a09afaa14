"""How all reports show numbers and tables."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from fedbench.measures import Verdict
from fedbench.stats import Spread
from fedbench.suites.cell import CellSpec
from fedbench.suites.fields import COMMON
from fedbench.suites.schema import value_text

WITHOUT = ("clip_norm", "target_accuracy", "require_accuracy")  # fields of which None means none

STYLES = {
    Verdict.OK: "green",
    Verdict.BELOW_MAJORITY: "yellow",
    Verdict.COLLAPSED: "yellow",
    Verdict.DIVERGED: "red",
    Verdict.FAILED: "red",
    Verdict.SKIPPED: "dim",
}


def mean_std(spread: Spread, digits: int, scale: float = 1, sign: str = "") -> str:
    """``0.412 ± 0.013``; only the mean for a single seed."""
    std = "" if spread.std is None else f" ± {scale * spread.std:.{digits}f}"
    return f"{scale * spread.mean:{sign}.{digits}f}{std}"


def percent(spread: Spread) -> str:
    """``82.4 ± 1.3``; only the mean for a single seed."""
    return mean_std(spread, 1, 100)


def seeds_text(counts: Collection[int]) -> str:
    """``5 seeds``, ``3 to 5 seeds`` if cells differ, or ``one seed``."""
    low, high = min(counts, default=0), max(counts, default=0)
    return "one seed" if high == 1 else f"{high} seeds" if low == high else f"{low} to {high} seeds"


def over_seeds(counts: Collection[int]) -> str:
    """``mean ± standard deviation over 5 seeds``, or that one seed has no spread."""
    text = seeds_text(counts)
    return "one seed, so no spread" if text == "one seed" else f"mean ± standard deviation over {text}"


def bounds_text(interval: Iterable[float] | None, form: str, scale: float = 1) -> str:
    """``-2.1 to +3.3``; empty without an interval."""
    return " to ".join(f"{scale * bound:{form}}" for bound in interval or ())


def reached(values: tuple[float | None, ...], budget: int) -> str:
    """``3/5 in 200``: three of five seeds reached a target within 200 rounds; ``not in 200``: none did."""
    count = sum(value is not None for value in values)
    return f"{count}/{len(values)} in {budget}" if count else f"not in {budget}"


def field_text(spec: CellSpec, field: str, none: str) -> str:
    """A field's value; `none` if the cell has none or does not read it, ``all`` if it sets no limit."""
    value = spec.get(field)
    return value_text(value) if value is not None else none if field not in COMMON or field in WITHOUT else "all"


def short_verdict(verdict: Verdict, reason: str | None) -> str:
    """``ok``, or ``collapsed 1/5`` if one of five seeds did; `reason` is that of `fedbench.measures.judge_cell`."""
    if reason and verdict not in (Verdict.OK, Verdict.SKIPPED):
        return f"{verdict} {reason.split(' seeds:')[0].replace(' of ', '/')}"
    return str(verdict)


def number(value: float | None) -> float | None:
    """A number for JSON: null if it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def spread_json(spread: Spread | None, interval: bool = True) -> dict[str, Any]:
    """A spread for JSON, with its 95 % interval if asked for."""
    bounds = (spread.interval if spread else None) or ()
    return {
        "mean": number(spread.mean) if spread else None,
        "std": number(spread.std) if spread else None,
        **({"ci95": [number(bound) for bound in bounds]} if interval else {}),
        "values": [number(value) for value in spread.values] if spread else [],
    }
