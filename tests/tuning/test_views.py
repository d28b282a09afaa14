"""The view of a study's trials; tests/tracking/test_ui_browser.py looks at views in a browser."""

from __future__ import annotations

import json
from typing import Any

from fedbench.tracking.mlflow.views import MAX_TAG, view_address, views_of
from fedbench.tuning.views import tuning_view_tags


def trials_state(fields: list[str], is_minimised: bool = False) -> dict[str, Any]:
    (saved,) = tuning_view_tags("f" * 64, fields, is_minimised).values()
    assert len(saved) < MAX_TAG
    return dict(json.loads(json.loads(saved)["state"]))


def test_the_best_trial_is_first() -> None:
    fields = ["client_fraction", "local_epochs", "batch_size", "learning_rate", "rounds"]
    state = trials_state(fields)
    assert ("metrics.`objective`", False) == (state["orderByKey"], state["orderByAsc"])
    assert trials_state(fields, is_minimised=True)["orderByAsc"]
    columns = state["selectedColumns"]
    assert ["tags.`fedbench.state`", "tags.`fedbench.verdict`", "params.`client_fraction`"] == columns[:3]
    assert "metrics.`objective`" in columns


def test_the_charts_show_the_searched_fields() -> None:
    parallel, scatter, line = trials_state(["local_epochs", "learning_rate"])["compareRunCharts"]
    assert ["local_epochs", "learning_rate"] == parallel["selectedParams"]
    assert ("learning_rate", "objective") == (scatter["xaxis"]["key"], scatter["yaxis"]["key"])
    assert ("LINE", "validation/accuracy") == (line["type"], line["metricKey"])
    assert "rounds" == trials_state(["rounds"])["compareRunCharts"][1]["xaxis"]["key"]


def test_the_address_opens_the_charts() -> None:
    (view,) = views_of(tuning_view_tags("cafe", ["learning_rate"], is_minimised=False))
    assert "viewStateShareKey=trials&compareRunsMode=CHART" in view_address("http://host:1", "7", view)
