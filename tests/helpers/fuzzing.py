"""Inputs of a reader that are arbitrary, or nearly valid; and what may come of them.

`FUZZ_SECONDS` says how long each of these tests searches; if it is not set, few examples are tried, always the same.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import timedelta
from functools import wraps
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from fedbench.util.errors import FedbenchError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
DEADLINE = timedelta(seconds=30)  # of one example
MEMORY = 1 << 30  # bytes that a test may add to the largest size of its process
ODD = (
    *("", " ", "\x00", "\x1b[31m", "a\nb", "\u202e", "²", "٣", "é", "日本", "-", "--", "~", ".", "..", "/", "../../x"),
    *("nan", "inf", "-inf", "1e999", "-0", "1_000", "0x10", "true", "null", "[]", "{}", "[1, 2]", "a=b", "a:b", "a;b"),
    *("/dev/null", "/dev/zero", "./x.py:y", "os:path", "x.npz", "%2F", "http://u:p@h", "$\\frac{$", "=cmd", "\ud800"),
    *("9" * 30, "9" * 5000, "x" * 5000, "[" * 5000, "{a: " * 500),
)
TEXT = st.sampled_from(ODD) | st.text(max_size=30)
NUMBERS = (
    st.sampled_from((0, -1, 1, 2, 2**31, 2**63 - 1, 2**63, 10**30, 10**400, 5e-324, 1e308))
    | st.integers()
    | st.floats()
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def fuzz(*inputs: SearchStrategy[Any], examples: int = 100) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `given`, with new examples for `FUZZ_SECONDS`; each example in bounded time, all in bounded memory."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        checks = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
        search = settings(
            max_examples=examples, deadline=DEADLINE, derandomize=not SECONDS, suppress_health_check=checks
        )(given(*inputs)(test))

        @wraps(search)
        def repeated(*arguments: Any, **fixtures: Any) -> None:
            before, end = _largest_size(), time.monotonic() + SECONDS
            search(*arguments, **fixtures)
            while time.monotonic() < end:
                search(*arguments, **fixtures)
            assert _largest_size() < before + MEMORY

        return repeated

    return decorate


def _largest_size() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def result_of(read: Callable[[], Any], *named: object) -> Any:
    """What `read` returns, or None if it raised the product's own error: one line, which names what is wrong."""
    try:
        return read()
    except FedbenchError as error:
        require_plain(str(error), *named)
        return None


def require_plain(line: str, *named: object) -> None:
    """One line of bounded length that a terminal may be sent, with one of the names in it."""
    assert line.isprintable(), line
    assert 0 < len(line) <= 1000, line
    assert not named or any(str(each) in line for each in named), line


@st.composite
def damaged(draw: DrawFn, valid: bytes) -> bytes:
    """The bytes of a file after one to four changes: flipped, cut, doubled, overwritten or inserted."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(start + draw(st.integers(1, 64) | st.integers(1, max(len(content), 1))), len(content))
        match draw(st.integers(0, 4)):
            case 0 if start < end:
                content[start] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del content[start:end]
            case 2:
                content[start:start] = content[start:end]
            case 3:
                content[start:end] = draw(st.binary(max_size=16))
            case _:
                content[start:start] = draw(st.binary(max_size=16))
    return bytes(content)


def any_bytes(*valid: bytes) -> SearchStrategy[bytes]:
    """Arbitrary bytes, or those of a valid file, damaged."""
    return st.one_of(st.binary(max_size=200), *(damaged(each) for each in valid))


@st.composite
def near(draw: DrawFn, valid: Any, anything: SearchStrategy[Any] = ANYTHING) -> Any:
    """A document of mappings and lists, in which one to three values are others, absent, doubled or added."""
    document = deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            return document
        holder, key = draw(st.sampled_from(places))
        match draw(st.integers(0, 5)):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, deepcopy(holder[key]))
            case 1:
                holder[draw(TEXT)] = draw(anything)
            case 2:  # another value of the document
                other, place = draw(st.sampled_from(places))
                if place in other if isinstance(other, dict) else place < len(other):
                    holder[key] = deepcopy(other[place])
            case _:
                holder[key] = draw(anything)
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each mapping or list with each of its keys."""
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield document, key
            yield from _places(document[key])
