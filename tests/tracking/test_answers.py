"""What an experiment's tags say of comparisons: which cells are compared, and what that says of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fedbench_here
from made_store import address, record
from made_suite import made_suite, metrics_of

from fedbench.api import record_answers
from fedbench.suites.contrast import ContrastMeasure, ContrastSpec
from fedbench.tracking.mlflow.answers import ANSWER, CONTRAST, recorded_contrast
from fedbench.tracking.mlflow.listing import list_runs
from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.suites import read_suite

TEXT = """
name: made
question: What is shown?
seeds: [0, 1, 2, 3, 4, 5]
scenarios: [{name: grid, num_clients: [2, 3], rounds: 1}]
contrast: {measure: loss}
"""


def answers(uri: str) -> dict[str, dict[str, str]]:
    """The tags by the cells' labels."""
    client = open_store(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'made'")
    cells = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'cell'")
    tags = {cell.data.tags["fedbench.cell"]: cell.data.tags for cell in cells}
    return {cell: {key: text for key, text in own.items() if key.startswith(ANSWER)} for cell, own in tags.items()}


def test_the_cells_own_runs_are_tagged_once_their_numbers_are_there(tmp_path: Path) -> None:
    uri = address(tmp_path)
    record(made_suite(tmp_path, TEXT), uri, lambda run, step: metrics_of(run, step) | {"accuracy": 0.5})
    assert ContrastSpec(measure=ContrastMeasure.LOSS) == read_suite("made", uri).contrast
    record_answers("made", uri)
    assert {
        "grid num_clients=2": {"fedbench.answer.num_clients": "rank 2 of 2 by loss; shown to be higher than 3"},
        "grid num_clients=3": {"fedbench.answer.num_clients": "rank 1 of 2 by loss; shown to be lower than 2"},
    } == answers(uri)


def test_deleted_runs_change_the_answers_of_all_cells(tmp_path: Path) -> None:
    """Five seeds, whose differences are equal, do not show what six do; with one cell left, nothing is compared."""
    uri = address(tmp_path)
    record(made_suite(tmp_path, TEXT), uri, lambda run, step: metrics_of(run, step) | {"accuracy": 0.5})
    record_answers("made", uri)
    delete = ("runs", "delete", "made", "--yes", "--tracking-uri", uri)
    first = next(run for run in list_runs("made", uri) if run.tags["fedbench.cell"] == "grid num_clients=2")
    assert 0 == fedbench_here(*delete, "--run", first.run_id, folder=tmp_path).code
    assert {
        "grid num_clients=2": {"fedbench.answer.num_clients": "rank 1 of 2 by loss; not shown to differ from 3"},
        "grid num_clients=3": {"fedbench.answer.num_clients": "rank 1 of 2 by loss; not shown to differ from 2"},
    } == answers(uri)
    done = fedbench_here(*delete, "--cell", "grid num_clients=3", folder=tmp_path)
    assert (0, "") == (done.code, done.err)
    assert {"grid num_clients=2": {}} == answers(uri)
    done = fedbench_here(*delete, "--status", "finished", folder=tmp_path)
    assert (0, "") == (done.code, done.err)


def test_a_store_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record_answers("made", address(tmp_path))
    assert "the cells' runs are not tagged with answers" in caplog.text


@pytest.mark.parametrize("text", ["", "3", "{", '{"axes": 3}', '{"measure": "x"}', '{"more": 1}'])
def test_a_tag_that_is_not_fedbenchs_counts_as_none(text: str) -> None:
    assert ContrastSpec() == recorded_contrast({CONTRAST: text}) == recorded_contrast({})
