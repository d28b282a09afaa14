"""Saved views of an experiment in MLflow's UI: those of a suite, and the parts to build others.

MLflow's UI keeps a saved view in a tag of the experiment, as JSON: a name, a time, and the state of the page as JSON
once more. The address of the page names the view by the last part of the tag. A state holds only what differs from the
page without a view; its keys are those of the front end of MLflow 3.17.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from pydantic import BaseModel, Field, Json, ValidationError

SHARED_VIEW = "mlflow.sharedViewState."
SEEDS = "seeds"  # every seed's run, grouped by cell
CELLS = "cells"  # each cell's own run, with the mean and the spread over its seeds
MAX_TAG = 5_000  # characters in a tag of an experiment, MLflow's limit
SHOWN_FIRST = "Shown first"  # the section with the charts of the view
FOLDED = ("Model metrics", "client_accuracy", "client_drift", "recall")  # MLflow's titles for most other charts
MAX_RANK = 100  # MLflow sorts views by time, the latest first; ours have a rank there, a user's the time


class View(NamedTuple):
    """A saved view that an experiment has."""

    key: str
    name: str
    has_charts: bool


class _Saved(BaseModel):
    """What `saved_view` made."""

    name: str
    rank: Annotated[int, Field(alias="createdAt", ge=0, lt=MAX_RANK)]
    state: Json[dict[str, Any]]


def view_tags() -> dict[str, str]:
    """The tags that give a suite's experiment its views."""
    return saved_view(SEEDS, "Seeds by cell", 2, _seeds()) | saved_view(CELLS, "Cells, mean and spread", 1, _cells())


def saved_view(key: str, name: str, rank: int, state: Mapping[str, Any]) -> dict[str, str]:
    """The tag of a view: `key` is in its address, `name` is what people see; views are listed by falling `rank`."""
    content = {"name": name, "createdAt": rank, "state": json.dumps(state, separators=(",", ":"))}
    return {SHARED_VIEW + key: json.dumps(content)}


def views_of(tags: Mapping[str, str]) -> list[View]:
    """The views that fedbench gave an experiment with these tags, the highest rank first."""
    ours = {}
    for key, text in tags.items():
        if key.startswith(SHARED_VIEW):
            with suppress(ValidationError):  # a user's, in whatever form MLflow keeps that
                ours[key.removeprefix(SHARED_VIEW)] = _Saved.model_validate_json(text)
    return [
        View(key, view.name, "compareRunCharts" in view.state)
        for key, view in sorted(ours.items(), key=lambda item: (-item[1].rank, item[1].name))
    ]


def view_address(server: str, experiment_id: str, view: View) -> str:
    """The address of a view in the UI of the MLflow server at `server`."""
    charts = {"compareRunsMode": "CHART"} if view.has_charts else {}
    query = {"viewStateShareKey": view.key, **charts, "workflowType": "machine_learning"}  # without the agents' pages
    return f"{server}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def _seeds() -> dict[str, Any]:
    return {
        "searchFilter": "tags.`fedbench.kind` = 'run' and status = 'FINISHED'",
        # Not the time of creation: sorted by that, MLflow adds each run's parent to what the filter finds. And not a
        # measure: of more than 100 runs MLflow loads the first, and a cell's mean would be that of its best seeds.
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        **grouped_by("fedbench.cell"),
        "runsHiddenMode": "FIRST_20_RUNS",  # groups in the charts; the default is 10
        **columns(tags=["fedbench.verdict"], metrics=["accuracy", "balanced_accuracy", "loss", "averaging_gain"]),
        "compareRunCharts": [
            chart("BAR", "accuracy"),
            chart("LINE", "accuracy"),
            chart("BAR", "averaging_gain"),
            chart("LINE", "loss"),
            chart("LINE", "balanced_accuracy"),
        ],
        **sections("Cells compared", FOLDED),
    }


def _cells() -> dict[str, Any]:
    spread = [f"accuracy/{part}" for part in ("mean", "std", "ci95_low", "ci95_high")]
    return {
        "searchFilter": "tags.`fedbench.kind` = 'cell'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        **columns(
            tags=["fedbench.verdict", "fedbench.seeds"], metrics=[*spread, "balanced_accuracy/mean", "loss/mean"]
        ),
    }


def columns(tags: Iterable[str], metrics: Iterable[str], params: Iterable[str] = ()) -> dict[str, Any]:
    """The columns of the table, in this order; widths in pixels."""
    groups = {"tags": tags, "params": params, "metrics": metrics}
    keys = [f"{group}.`{name}`" for group, names in groups.items() for name in names]
    widths = {"attributes.`Run Name`": 300, "runDateAndNestInfo": 135, "duration": 75} | dict.fromkeys(keys, 115)
    return {"selectedColumns": keys, "columnOrder": list(widths), "columnWidths": widths}


def grouped_by(tag: str) -> dict[str, Any]:
    """Runs with the same value of a tag are one group, drawn as their mean."""
    return {"groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]}}


def chart(kind: str, metric: str) -> dict[str, Any]:
    """A ``BAR`` or ``LINE`` chart of a metric in the open section."""
    smoothness = {"lineSmoothness": 0} if kind == "LINE" else {}  # by default MLflow smooths what was measured
    return card(kind, metric) | {"metricKey": metric} | smoothness


def card(kind: str, name: str) -> dict[str, Any]:
    """A chart of any kind in the open section; its other keys are for the caller to add."""
    return {"type": kind, "uuid": f"{kind} {name}", "metricSectionId": SHOWN_FIRST}


def sections(title: str, folded: Iterable[str]) -> dict[str, Any]:
    """An open section for the charts of the view, and MLflow's own of these titles, folded; in this order."""
    return {
        "compareRunSections": [
            {"uuid": SHOWN_FIRST, "name": title, "display": True, "columns": 2},
            *({"uuid": each, "name": each, "display": False} for each in folded),
        ],
        "isAccordionReordered": True,
    }
