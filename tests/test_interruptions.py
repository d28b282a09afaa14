"""Interruptions that wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fedbench.util.interruptions import uninterrupted


@pytest.fixture(autouse=True)
def _interrupting() -> Iterator[None]:
    """SIGTERM interrupts, as in a command."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def ask_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_an_interruption_waits_for_the_end_of_a_block_and_a_second_one_does_not() -> None:
    done = []

    @uninterrupted()
    def asked_twice() -> None:
        ask_to_end()
        done.append("first")
        ask_to_end()
        done.append("second")

    with pytest.raises(KeyboardInterrupt):
        asked_twice()
    assert ["first"] == done


def test_within_another_block_it_waits_for_the_end_of_the_outer_one() -> None:
    done = []

    @uninterrupted()
    def outer() -> None:
        with uninterrupted():
            ask_to_end()
        done.append("inner")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert ["inner"] == done
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_an_error_of_the_block_is_the_context() -> None:
    @uninterrupted()
    def failing() -> None:
        ask_to_end()
        raise ValueError

    with pytest.raises(KeyboardInterrupt) as caught:
        failing()
    assert isinstance(caught.value.__context__, ValueError)
