"""How work is spread over threads: by what behaves as ``map`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class OrderedMap(Protocol):
    """Calls a function with each item and gives the results in the order of the items, as the built-in ``map`` does.

    The items are taken in the caller's thread, one after the other and not far ahead of the results; the calls may be
    made in several threads at once.
    """

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterable[R]: ...  # noqa: D102
