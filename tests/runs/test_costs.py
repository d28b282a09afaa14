"""What a run computes, in examples that a reader can count; mnist-5k has 4,000 to train on and 1,000 to test on."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_suite import made_suite

from fedbench.runs.costs import OBSERVED, REPAIR, evaluated_at_the_end, evaluated_in_a_round, trained_in_a_round

SUITE = """
name: made
question: How much?
seeds: [0]
scenarios: [{name: a, examples_per_client: 100, local_epochs: 5, MORE}]
"""


@pytest.mark.parametrize(
    ("more", "at_the_end"),
    [
        ("num_clients: 3", 3 * 1000),  # the clients' own models
        ("num_clients: 21", 0),  # of so many they are not measured
        ("interpolation: true", (2 + 29) * 1000),
        ("interpolation: true, interpolation_set: train", 2 * 1000 + 71 * 4000),
        ("aggregation: aligned", (2 + 1) * 1000),  # and the plain average
        # The units of two models are compared on 1,000 images, before and after these are aligned.
        ("aggregation: aligned, interpolation: true", (3 + 29 + 11) * 1000 + 4 * OBSERVED * 1000),
        # Two models are observed on 1,000 public examples, and nine averages of them are repaired.
        (
            "aggregation: {use: aligned, repair: true}, interpolation: true",
            (3 + 29 + 11 + 9) * 1000 + (4 + 2 + 9 * REPAIR) * OBSERVED * 1000,
        ),
    ],
)
def test_other_models_of_the_last_round_count(tmp_path: Path, more: str, at_the_end: int) -> None:
    (cell,) = made_suite(tmp_path, SUITE.replace("MORE", more)).cells
    assert cell.spec.num_clients * 500 == trained_in_a_round(cell.spec)
    assert at_the_end == evaluated_at_the_end(cell.spec)


@pytest.mark.parametrize(
    ("more", "observed"),
    [
        ("aggregation: mean", 0),
        ("aggregation: aligned", 0),
        ("aggregation: {use: aligned, align_by: activations}", 2),
        ("aggregation: {use: aligned, align_by: activations, repair: true}", 2 + 2 + REPAIR),
    ],
)
def test_models_that_are_aligned_by_examples_cost_more_each_round(tmp_path: Path, more: str, observed: int) -> None:
    (cell,) = made_suite(tmp_path, SUITE.replace("MORE", more)).cells
    assert 1000 + observed * OBSERVED * 1000 == evaluated_in_a_round(cell.spec)
