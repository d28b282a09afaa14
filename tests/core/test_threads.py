"""Threads must not be visible in a result: order, items in flight, errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from fedbench.core.threads import thread_map


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    assert [number * number for number in range(20)] == list(thread_map(slow_first, range(20), 3))


def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    barrier = threading.Barrier(3, timeout=10)  # breaks unless three are there at once
    assert [0, 1, 2] == sorted(thread_map(lambda number: (barrier.wait(), number)[1], range(3), 3))


@pytest.mark.parametrize(("num_threads", "ahead"), [(1, 1), (3, 6)])
def test_items_are_taken_in_the_callers_thread_and_not_far_ahead(num_threads: int, ahead: int) -> None:
    taken: list[threading.Thread] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(threading.current_thread())
            yield number

    next(results := thread_map(lambda number: number, items(), num_threads))
    assert ahead == len(taken)
    assert {threading.current_thread()} == set(taken)
    results.close()


def test_an_error_is_raised_in_its_turn_and_the_rest_is_cancelled() -> None:
    called: list[int] = []

    def fails_at_two(number: int) -> int:
        called.append(number)
        if number == 2:
            raise ValueError("two")
        return number

    results = thread_map(fails_at_two, range(1000), 3)
    assert [0, 1] == [next(results), next(results)]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert len(called) < 20


def test_a_thread_has_as_many_of_pytorchs_threads_as_the_caller() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert [1] * 3 == list(thread_map(lambda _: torch.get_num_threads(), range(3), 3))
    finally:
        torch.set_num_threads(before)
