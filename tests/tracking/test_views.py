"""The views are what MLflow's UI can read. tests/test_ui_browser.py looks at what it makes of them."""

from __future__ import annotations

import json
from typing import Any

from fedbench.tracking.mlflow.views import CELLS, SEEDS, TRIALS, tuning_view_tags, view_address, view_tags

MAX_TAG = 5_000  # characters in an experiment's tag, MLflow's limit


def state(view: str) -> dict[str, Any]:
    saved = json.loads(view_tags()[f"mlflow.sharedViewState.{view}"])
    return dict(json.loads(saved["state"]))


def test_each_view_is_a_tag_that_mlflow_lists_by_name() -> None:
    saved = {key: json.loads(value) for key, value in view_tags().items()}
    assert ["mlflow.sharedViewState.seeds", "mlflow.sharedViewState.cells"] == list(saved)
    assert ["Seeds by cell", "Cells, mean and spread"] == [view["name"] for view in saved.values()]
    assert all(isinstance(view["createdAt"], int) and isinstance(view["state"], str) for view in saved.values())


def test_a_view_fits_into_a_tag() -> None:
    assert all(len(value) < MAX_TAG for value in view_tags().values())


def test_the_seeds_are_not_sorted_by_their_creation_which_would_bring_in_the_cells_own_runs() -> None:
    assert "attributes.start_time" != state(SEEDS)["orderByKey"]


def test_lines_are_drawn_as_measured() -> None:
    lines = [chart for chart in state(SEEDS)["compareRunCharts"] if chart["type"] == "LINE"]
    assert [0] * 3 == [chart["lineSmoothness"] for chart in lines]


def test_every_chart_is_in_a_section_that_is_open() -> None:
    (open_section,) = (section for section in state(SEEDS)["compareRunSections"] if section["display"])
    assert {open_section["uuid"]} == {chart["metricSectionId"] for chart in state(SEEDS)["compareRunCharts"]}


def test_the_addresses_name_the_views() -> None:
    runs = "http://host:1/#/experiments/7/runs"
    query = "compareRunsMode=CHART&workflowType=machine_learning"
    assert f"{runs}?viewStateShareKey=seeds&{query}" == view_address("http://host:1", "7", SEEDS)
    assert f"{runs}?viewStateShareKey=cells&workflowType=machine_learning" == view_address("http://host:1", "7", CELLS)


def trials_state(fields: list[str], is_minimised: bool = False) -> dict[str, Any]:
    (saved,) = tuning_view_tags("f" * 64, fields, is_minimised).values()
    assert len(saved) < MAX_TAG
    return dict(json.loads(json.loads(saved)["state"]))


def test_the_trials_are_sorted_by_the_objective_the_best_first() -> None:
    fields = ["client_fraction", "local_epochs", "batch_size", "learning_rate", "rounds"]
    assert ("metrics.`objective`", False) == (trials_state(fields)["orderByKey"], trials_state(fields)["orderByAsc"])
    assert trials_state(fields, is_minimised=True)["orderByAsc"]
    columns = trials_state(fields)["selectedColumns"]
    assert ["tags.`fedbench.state`", "tags.`fedbench.verdict`", "params.`client_fraction`"] == columns[:3]
    assert "metrics.`objective`" in columns


def test_the_charts_of_the_trials_are_of_the_searched_fields() -> None:
    parallel, scatter, line = trials_state(["local_epochs", "learning_rate"])["compareRunCharts"]
    assert ["local_epochs", "learning_rate"] == parallel["selectedParams"]
    assert ("learning_rate", "objective") == (scatter["xaxis"]["key"], scatter["yaxis"]["key"])
    assert ("LINE", "validation/accuracy") == (line["type"], line["metricKey"])
    assert "rounds" == trials_state(["rounds"])["compareRunCharts"][1]["xaxis"]["key"]


def test_the_address_of_the_trials_opens_their_charts() -> None:
    assert "viewStateShareKey=trials&compareRunsMode=CHART" in view_address("http://host:1", "7", TRIALS)
