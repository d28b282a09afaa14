"""A map over several threads, whose results do not depend on their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def thread_map(function: Callable[[T], R], items: Iterable[T], num_threads: int) -> Iterator[R]:
    """Call `function` with each item, in `num_threads` threads, and yield the results in the order of the items.

    The items are taken in the caller's thread, at most ``2 * num_threads`` ahead of the results. With one thread this
    is the built-in ``map``. A thread has as many of PyTorch's own threads as the caller: how an operation is split over
    threads is part of its last bits.
    """
    if num_threads <= 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))
    ahead: deque[Future[R]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) == 2 * num_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
