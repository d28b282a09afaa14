"""Idle cores put to use: the clients of a round, and batches of the test set, in several threads of one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class ThreadMap:
    """An `OrderedMap` (see `fedbench.core`) over as many threads as `count()` gives when it is called.

    Beside the results that were not taken yet it holds at most as many items as there are threads.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self.count = count

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """See `OrderedMap`."""
        count = self.count()
        if count <= 1:
            yield from map(function, items)
            return
        # A new thread would take all cores for each of its operations; see `fedbench.executors` why none may.
        pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) == 2 * count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
