"""Threads must not be seen in a result: order, memory ahead, errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from fedbench.executors.threads import ThreadMap


def three_at_once() -> ThreadMap:
    return ThreadMap(lambda: 3)


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    assert [number * number for number in range(20)] == list(three_at_once()(slow_first, range(20)))


def test_as_many_calls_are_made_at_once_as_there_are_threads() -> None:
    barrier = threading.Barrier(3, timeout=10)  # breaks unless three are there at once
    assert [0, 1, 2] == sorted(three_at_once()(lambda number: (barrier.wait(), number)[1], range(3)))


def test_one_thread_is_the_callers_and_takes_an_item_when_its_result_is_asked_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    results = ThreadMap(lambda: 1)(lambda _: threading.current_thread(), items())
    assert threading.current_thread() is next(results)
    assert [0] == taken


def test_items_are_taken_in_the_callers_thread_and_not_far_ahead() -> None:
    taken: list[threading.Thread] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(threading.current_thread())
            yield number

    next(results := three_at_once()(lambda number: number, items()))
    assert 6 == len(taken)  # three that run, three that wait for their turn
    assert {threading.current_thread()} == set(taken)
    results.close()


def test_an_error_is_raised_in_its_turn_and_the_others_are_given_up() -> None:
    called: list[int] = []

    def fails_at_two(number: int) -> int:
        called.append(number)
        if number == 2:
            raise ValueError("two")
        return number

    results = three_at_once()(fails_at_two, range(1000))
    assert [0, 1] == [next(results), next(results)]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert len(called) < 20


def test_a_thread_has_the_number_of_pytorchs_threads_that_the_caller_has() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert [1] * 3 == list(three_at_once()(lambda _: torch.get_num_threads(), range(3)))
    finally:
        torch.set_num_threads(before)
