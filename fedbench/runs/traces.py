"""The parts of a run in a trace of PyTorch's profiler: how they are marked, and what a trace says of them."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

LABEL = "fedbench/"
WHOLE = f"{LABEL}run"  # around all that is recorded; what lies in no part of it is `other`
PARTS = ("training", "evaluation", "averaging", "data", "tracking")
NUM_OPERATORS = 10
ON_CPU = ("cpu_op", "cuda_runtime", "cuda_driver")  # the profiler's categories of what a core does


def part(name: str) -> AbstractContextManager[object]:
    """Mark a part of a run in code that may run before PyTorch is imported.

    Other code uses ``torch.profiler.record_function("fedbench/<part>")``. A mark costs microseconds even if nothing is
    recorded, so there is none for a single batch.
    """
    if "torch" not in sys.modules:  # then nothing is recorded
        return nullcontext()
    from torch.profiler import record_function

    return record_function(LABEL + name)


@dataclass(frozen=True)
class Operator:
    """An operator of PyTorch, or a call to a GPU's driver; `seconds` are its own, without what it calls."""

    name: str
    seconds: float
    calls: int


class Span(NamedTuple):
    """A marked block or a call of an operator in a trace; times are in microseconds."""

    kind: str
    name: str
    thread: int
    start: float
    duration: float


def read_trace(trace: bytes) -> tuple[dict[str, float], tuple[Operator, ...]]:
    """Read a trace.

    Returns the seconds of each of `PARTS` and of ``other``, which exclude each other and add up to the recorded time;
    and the operators with the most time of their own, the longest first. Raises `ValueError` if it is not a whole trace
    of one recording.
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
    """Keep as little as possible of an object of a trace: there are more than a million."""
    if fields.get("ph") == "X" and "cat" in fields:
        return Span(fields["cat"], sys.intern(fields["name"]), fields["tid"], fields["ts"], fields["dur"])
    return fields if "traceEvents" in fields else None


def own_seconds(spans: Iterable[Span]) -> tuple[dict[str, float], Counter[str]]:
    """By name, the seconds of spans without those nested inside them on the same thread, and the number of spans."""
    microseconds: dict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    around: dict[int, list[tuple[float, str]]] = defaultdict(list)  # by thread, end and name of the open spans
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
