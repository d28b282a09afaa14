"""What a trace of PyTorch's profiler says: the time of each part of a run, and of the operators. Pure functions."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

LABEL = "fedbench/"
WHOLE = f"{LABEL}run"  # around all that is recorded; what lies in no part of it is `other`
PARTS = ("training", "evaluation", "averaging", "data", "tracking")
NUM_OPERATORS = 10
ON_CPU = ("cpu_op", "cuda_runtime", "cuda_driver")  # the profiler's kinds of what a processor's core does


@dataclass(frozen=True)
class Operator:
    """An operator of PyTorch, or a call to a GPU's driver: ``seconds`` are its own, without what it calls."""

    name: str
    seconds: float
    calls: int


class Span(NamedTuple):
    """A block of the code or a call of an operator in a trace; times are in microseconds."""

    kind: str
    name: str
    thread: int
    start: float
    duration: float


def read_trace(trace: bytes) -> tuple[dict[str, float], tuple[Operator, ...]]:
    """Read what a recording left.

    Returns
    -------
    The seconds of each of `PARTS` and of ``other``, which exclude each other and whose sum is all that was recorded;
    and the operators with the most time of their own, the longest first.

    Raises
    ------
    ValueError
        If it is not a whole trace of one recording.
    """
    spans: list[Span] = [each for each in json.loads(trace, object_hook=_slim)["traceEvents"] if each]
    labels = [span for span in spans if span.kind == "user_annotation" and span.name.startswith(LABEL)]
    (whole,) = (span for span in labels if span.name == WHOLE)
    seconds, _ = own_seconds(span for span in labels if span.thread == whole.thread)
    other = seconds.pop(WHOLE)
    parts = dict.fromkeys(PARTS, 0.0) | {name.removeprefix(LABEL): value for name, value in seconds.items()}
    seconds, calls = own_seconds(span for span in spans if span.kind in ON_CPU)
    largest = sorted(seconds, key=lambda name: (-seconds[name], name))[:NUM_OPERATORS]
    return parts | {"other": other}, tuple(Operator(name, seconds[name], calls[name]) for name in largest)


def _slim(fields: dict[str, Any]) -> Span | dict[str, Any] | None:
    """An object of a trace as little as possible: there are a million and more."""
    if fields.get("ph") == "X" and "cat" in fields:
        return Span(fields["cat"], sys.intern(fields["name"]), fields["tid"], fields["ts"], fields["dur"])
    return fields if "traceEvents" in fields else None


def own_seconds(spans: Iterable[Span]) -> tuple[dict[str, float], Counter[str]]:
    """By name, the seconds of spans without those that lie inside them on the same thread, and how many there are."""
    microseconds: dict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    around: dict[int, list[tuple[float, str]]] = defaultdict(list)  # by thread, the end and name of what is open
    for span in sorted(spans, key=lambda span: (span.start, -span.duration)):
        stack = around[span.thread]
        while stack and stack[-1][0] <= span.start:
            stack.pop()
        if stack:
            microseconds[stack[-1][1]] -= span.duration
        microseconds[span.name] += span.duration
        calls[span.name] += 1
        stack.append((span.start + span.duration, span.name))
    return {name: value / 1e6 for name, value in microseconds.items()}, calls
