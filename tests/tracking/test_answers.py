"""What an experiment's tags say of comparisons: which cells are compared, and what that says of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fedbench_here
from made_store import address, record
from made_suite import made_suite, metrics_of

from fedbench.api import record_answers
from fedbench.reports.answers import answer_all
from fedbench.suites.contrast import ContrastMeasure, ContrastSpec
from fedbench.suites.schema import RunSpec
from fedbench.tracking.mlflow.answers import CONTRAST, recorded_contrast
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


def said(uri: str) -> dict[str, dict[str, str]]:
    """Of each cell's own run its fields and what is said of it; of the experiment, the lines in bold."""
    client = open_store(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'made'")
    runs = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'cell'")
    lines = experiment.tags["mlflow.note.content"].partition("**How")[0].splitlines()
    found = {"": {str(place): line for place, line in enumerate(lines) if line.startswith("**")}}
    for run in runs:
        own = {key[16:]: text for key, text in run.data.tags.items() if key.startswith("fedbench.answer.")}
        found[f"{run.data.tags['fedbench.cell']} {run.data.params['rounds']}"] = own
    return found


def louder(run: RunSpec, step: int) -> dict[str, float]:
    return metrics_of(run, step) | {"accuracy": 0.5}


def test_the_cells_own_runs_and_the_experiment_say_what_is_shown(tmp_path: Path) -> None:
    uri = address(tmp_path)
    record(made_suite(tmp_path, TEXT), uri, louder)
    assert ContrastSpec(measure=ContrastMeasure.LOSS) == read_suite("made", uri).contrast
    record_answers("made", uri)
    (sentence,) = (
        each.sentence for each in answer_all(read_suite("made", uri).current, read_suite("made", uri).contrast)
    )
    assert {
        "": {"2": f"**{sentence}**"},
        "grid num_clients=2 1": {"num_clients": "rank 2 of 2 by loss; shown to be higher than 3"},
        "grid num_clients=3 1": {"num_clients": "rank 1 of 2 by loss; shown to be lower than 2"},
    } == said(uri)


def test_more_seeds_update_what_is_said(tmp_path: Path) -> None:
    uri = address(tmp_path)
    for seeds in ("[0, 1]", "[0, 1, 2, 3, 4, 5]"):
        record(made_suite(tmp_path, TEXT.replace("[0, 1, 2, 3, 4, 5]", seeds)), uri, louder)
        record_answers("made", uri)
    assert "all 6 seeds" in said(uri)[""]["2"]
    assert "shown to be lower than 2" in said(uri)["grid num_clients=3 1"]["num_clients"]


def test_what_was_said_of_cells_that_a_changed_file_has_replaced_is_removed(tmp_path: Path) -> None:
    uri = address(tmp_path)
    for text in (TEXT, TEXT.replace("rounds: 1", "rounds: 2")):
        record(made_suite(tmp_path, text), uri, louder)
        record_answers("made", uri)
    stored = read_suite("made", uri)
    assert (4, 2) == (len(stored.cells), len(stored.current))
    assert {"grid num_clients=2 2", "grid num_clients=3 2"} == {
        label for label, own in said(uri).items() if own and label
    }


def test_deleted_runs_change_what_is_said_of_all_cells(tmp_path: Path) -> None:
    """Five seeds, whose differences are equal, do not show what six do; with one cell left, nothing is compared."""
    uri = address(tmp_path)
    record(made_suite(tmp_path, TEXT), uri, louder)
    record_answers("made", uri)
    delete = ("runs", "delete", "made", "--yes")
    first = next(run for run in list_runs("made", uri) if run.tags["fedbench.cell"] == "grid num_clients=2")
    assert 0 == fedbench_here(*delete, "--run", first.run_id, folder=tmp_path).code
    assert "the same in all 5 common seeds" in said(uri)[""]["2"]
    assert "rank 1 to 2 of 2 by loss; not shown to differ from 2" == said(uri)["grid num_clients=3 1"]["num_clients"]
    done = fedbench_here(*delete, "--cell", "grid num_clients=3", folder=tmp_path)
    assert (0, "") == (done.code, done.err)
    assert {"": {}, "grid num_clients=2 1": {}} == said(uri)
    done = fedbench_here(*delete, "--status", "finished", folder=tmp_path)
    assert (0, "") == (done.code, done.err)


def test_a_store_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record_answers("made", address(tmp_path))
    assert "the answers are not in MLflow: " in caplog.text


@pytest.mark.parametrize("text", ["", "3", "{", '{"axes": 3}', '{"measure": "x"}', '{"more": 1}'])
def test_a_tag_that_is_not_fedbenchs_counts_as_none(text: str) -> None:
    assert ContrastSpec() == recorded_contrast({CONTRAST: text}) == recorded_contrast({})
