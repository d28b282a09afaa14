"""The saved views of a suite's experiment. test_ui_browser.py looks at what MLflow's UI makes of them."""

from __future__ import annotations

import json
from typing import Any

from fedbench.tracking.mlflow.views import MAX_TAG, saved_view, view_address, view_tags, views_of


def state(view: str) -> dict[str, Any]:
    saved = json.loads(view_tags()[f"mlflow.sharedViewState.{view}"])
    return dict(json.loads(saved["state"]))


def test_each_view_is_a_tag_that_mlflow_lists_by_name() -> None:
    saved = {key: json.loads(value) for key, value in view_tags().items()}
    assert ["mlflow.sharedViewState.seeds", "mlflow.sharedViewState.cells"] == list(saved)
    assert ["Seeds by cell", "Cells, mean and spread"] == [view["name"] for view in saved.values()]
    assert all(isinstance(view["createdAt"], int) and isinstance(view["state"], str) for view in saved.values())
    assert all(len(value) < MAX_TAG for value in view_tags().values())


def test_seeds_are_not_sorted_by_their_creation_which_would_add_the_cells_own_runs() -> None:
    assert "attributes.start_time" != state("seeds")["orderByKey"]


def test_lines_are_drawn_as_measured_in_the_open_section() -> None:
    charts = state("seeds")["compareRunCharts"]
    assert [0] * 3 == [chart["lineSmoothness"] for chart in charts if chart["type"] == "LINE"]
    (open_section,) = (section for section in state("seeds")["compareRunSections"] if section["display"])
    assert {open_section["uuid"]} == {chart["metricSectionId"] for chart in charts}


def test_views_are_listed_by_rank_without_those_that_a_user_saved() -> None:
    first = saved_view("trials", "Trials compared", 3, {"compareRunCharts": []})
    by_hand = {
        "mlflow.sharedViewState.a": json.dumps({"name": "mine", "createdAt": 1_764_000_000_000, "state": "{}"}),
        "mlflow.sharedViewState.b": "deflate;eJyrVkrLz1eyUkpKLFKqBQA=",
    }
    views = views_of(view_tags() | first | by_hand | {"fedbench.schema": "2"})
    assert ["trials", "seeds", "cells"] == [view.key for view in views]
    assert [True, True, False] == [view.has_charts for view in views]


def test_an_address_names_the_view() -> None:
    seeds, cells = views_of(view_tags())
    runs = "http://host:1/#/experiments/7/runs"
    query = "compareRunsMode=CHART&workflowType=machine_learning"
    assert f"{runs}?viewStateShareKey=seeds&{query}" == view_address("http://host:1", "7", seeds)
    assert f"{runs}?viewStateShareKey=cells&workflowType=machine_learning" == view_address("http://host:1", "7", cells)
