"""What is left of a suite's time, by runs that a reader can add up; and, at night, by real ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from command import fedbench_here
from made_suite import made_suite

from fedbench.runs import pace as module
from fedbench.runs.pace import HALF, RECORDING, TRAINING, Pace
from fedbench.suites.schema import Suite

# A round trains 2 * 5 * 400 examples and evaluates the 1,000 test images.
TEXT = """
name: made
question: How long?
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
scenarios: [{name: a, examples_per_client: 400, rounds: 4}]
"""
ROUND = TRAINING * 4000 + 1000
RUN = 4 * ROUND + 2 * 1000 + RECORDING


class Clock:
    def __init__(self) -> None:
        self.now = 100.0  # seconds of start-up

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return made_suite(tmp_path, TEXT)


def compute(pace: Pace, clock: Clock, run: int, suite: Suite, seconds: float, kept: int = 0) -> None:
    """One run that takes so long, each round in proportion to its work."""
    pace.begin(suite.runs[run], kept)
    for number in range(1, 5):
        if number > kept:
            clock.now += seconds * ROUND / RUN
        pace.add_round(suite.runs[run], number, {"training_seconds": seconds * ROUND / RUN})
    with pace.recorded(suite.runs[run]):
        clock.now += seconds * (1 - 4 * ROUND / RUN)


def test_start_up_is_no_part_of_it(suite: Suite, clock: Clock) -> None:
    pace = Pace(suite.runs, clock)
    assert pace.seconds_left is None
    compute(pace, clock, 0, suite, 8.0)
    compute(pace, clock, 1, suite, 8.0)
    assert pace.seconds_left == pytest.approx(8 * 8)


def test_recording_the_first_run_counts_as_done_and_takes_no_time(suite: Suite, clock: Clock) -> None:
    """Most of it happens once, and others are computed meanwhile: it takes half as long if one of two waits for it."""
    run, other = suite.runs[:2]
    for at_once, lost in (((run,), 3.0), ((run, other), 1.5)):
        pace = Pace(suite.runs, clock)
        for each in at_once:
            pace.begin(each)
        clock.now += 1.0
        pace.add_round(run, 4, {"training_seconds": 1.0})
        with pace.recorded(run):
            clock.now += 3.0
        done = RUN + HALF * ROUND * (len(at_once) - 1)
        assert pace.seconds_left == pytest.approx((4.0 - lost) * (10 * RUN - done) / done)


def test_the_pace_is_that_of_the_later_half(suite: Suite, clock: Clock) -> None:
    pace = Pace(suite.runs, clock)
    for run in range(8):
        compute(pace, clock, run, suite, 8.0 if run < 4 else 2.0)
    assert pace.seconds_left == pytest.approx(2 * 2.0)


def test_half_a_round_of_each_run_under_way_counts(suite: Suite, clock: Clock) -> None:
    """Two at once, in step: after the first rounds of both, 2 of 10 runs are in their second round."""
    pace = Pace(suite.runs, clock)
    for run in suite.runs[:2]:
        pace.begin(run)
    clock.now += 1.0
    for run in suite.runs[:2]:
        pace.add_round(run, 1, {"training_seconds": 0.8, "evaluation_seconds": 0.2})
    done = 2 * 1.5 * ROUND
    assert pace.seconds_left == pytest.approx((10 * RUN - done) / done)


def test_rounds_of_an_earlier_command_and_runs_of_another_do_not_count(suite: Suite, clock: Clock) -> None:
    pace = Pace(suite.runs, clock)
    compute(pace, clock, 0, suite, 8.0)
    for run in suite.runs[2:]:
        pace.leave_out(run)
    before = clock.now
    compute(pace, clock, 1, suite, 8.0, kept=3)
    assert clock.now - before < 4
    assert pace.seconds_left == 0


def test_a_round_that_is_told_twice_counts_once(suite: Suite, clock: Clock) -> None:
    pace = Pace(suite.runs, clock)
    pace.begin(suite.runs[0])
    clock.now += 1
    pace.add_round(suite.runs[0], 1, {"training_seconds": 1})
    left = pace.seconds_left
    pace.add_round(suite.runs[0], 1, {"training_seconds": 1})
    assert left == pace.seconds_left


def test_runs_that_fail_before_their_first_round_are_an_estimate_too(suite: Suite, clock: Clock) -> None:
    pace = Pace(suite.runs, clock)
    pace.begin(suite.runs[0])
    with pace.recorded(suite.runs[0]):
        clock.now += 1
    assert pace.seconds_left == 0


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("suite_name", ["quickstart", "client-grid-mnist", "learning-rates"])
def test_after_a_tenth_of_a_suite_the_estimate_is_right_within_a_factor(
    suite_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, float]] = []

    def note(_: str, left: float | None = None) -> None:
        if left is not None:
            told.append((time.monotonic(), left))

    monkeypatch.setattr(module, "phase", note)
    assert 0 == fedbench_here("run", suite_name, "--set", "dataset=mnist-5k", folder=tmp_path).code
    end = told[-1][0]
    took = end - told[0][0]
    factors = [(left + 1) / (end - now + 1) for now, left in told if end - now < 0.9 * took]  # a second is none
    wrong = [factor for factor in factors if not 1 / 1.5 < factor < 1.5]
    assert len(wrong) < 0.1 * len(factors), (took, min(factors), max(factors))
