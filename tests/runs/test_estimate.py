"""How long a suite may take: the steps are exact, the seconds are measured."""

from __future__ import annotations

import pytest

from fedbench.runs.estimate import TRACKING_SECONDS, CellEstimate, estimate_suite
from fedbench.suites.loading import load_suite

SUITE = """
name: made
question: How long?
seeds: [0, 1, 2]
defaults: {rounds: 4, local_epochs: 5}
scenarios:
  - {name: plain, num_clients: 2, examples_per_client: 100, batch_size: 30}
  - {name: whole, num_clients: 2, examples_per_client: 100, batch_size: null}
  - {name: some, num_clients: 10, examples_per_client: 100, batch_size: 100, client_fraction: 0.3}
  - {name: large, num_clients: 2, examples_per_client: 9000}
  - {name: longer, num_clients: 2, examples_per_client: 100, batch_size: 30, rounds: 400}
"""


@pytest.fixture(scope="module")
def estimates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CellEstimate]:
    path = tmp_path_factory.mktemp("suite") / "made.yaml"
    path.write_text(SUITE)
    return {each.cell.scenario: each for each in estimate_suite(load_suite(path))}


@pytest.mark.parametrize(
    ("scenario", "steps"),
    [
        ("plain", 3 * 4 * 2 * 5 * 4),  # seeds, rounds, clients, epochs, batches of 30, 30, 30 and 10
        ("whole", 3 * 4 * 2 * 5),
        ("some", 3 * 4 * 3 * 5),  # 3 of 10 clients a round
        ("large", 0),
    ],
)
def test_local_steps_are_counted_over_seeds_rounds_clients_and_epochs(
    estimates: dict[str, CellEstimate], scenario: str, steps: int
) -> None:
    assert steps == estimates[scenario].local_steps


def test_a_cell_beyond_the_data_costs_nothing_and_says_why(estimates: dict[str, CellEstimate]) -> None:
    expected = (0.0, "needs 2 x 9000 = 18000 training examples; mnist-5k has 4000")
    assert expected == (estimates["large"].seconds, estimates["large"].shortfall)


def test_a_hundred_times_the_rounds_take_nearly_a_hundred_times_as_long(estimates: dict[str, CellEstimate]) -> None:
    """Both were timed once and share the speed; a run's share of the store does not grow."""
    assert 0 < estimates["plain"].seconds < estimates["longer"].seconds
    tracking = 3 * TRACKING_SECONDS
    ratio = (estimates["longer"].seconds - tracking) / (estimates["plain"].seconds - tracking)
    assert 65 < ratio <= 100  # below 100 by the clients' own models, which are measured once: 2 more to 4 and 400
