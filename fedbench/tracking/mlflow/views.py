"""The views that an experiment carries: what `fedbench ui` opens in MLflow's list of runs.

MLflow's UI keeps a saved view in a tag of the experiment, as JSON: a name, a time, and the state of the page as JSON
once more. The address of the page names the view by the tag's last part. A state holds only what differs from the
page as it is without a view; the names in it are those of MLflow 3.17's own front end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

SHARED_VIEW = "mlflow.sharedViewState."
SEEDS = "seeds"  # every seed's run, grouped by cell
CELLS = "cells"  # each cell's own run, with the mean and the spread over its seeds
TRIALS = "trials"  # of an experiment with tuning: the trials of the study that was worked on last
SPEED = "speed"  # the experiment of the timings, and its view: a line a benchmark; "speed-" and its name for a group
REGRESSION = (
    "regression"  # the experiment of the checks, and its view: a line a suite; "regression-" and a suite's name
)

SHOWN_FIRST = "Cells compared"  # the title above the charts
SPEED_TITLE = "Speed over commits"  # likewise
TRIALS_TITLE = "Trials compared"  # likewise
CHECKS_TITLE = "Checks over commits"  # likewise
MAX_TAG = 5_000  # characters in an experiment's tag, MLflow's limit
OVERALL = ("failures", "worst_difference", "largest_ratio")  # of a check: the metrics that every suite's can have
CHECKS_FOLDED = ("Model metrics", "accuracy", "balanced_accuracy", "difference", "ratio", "std", "yardstick_multiple")
FOLDED = ("Model metrics", "client_accuracy", "client_drift", "recall")  # MLflow's titles for most other charts


def view_tags() -> dict[str, str]:
    """The tags that give a suite's experiment its views."""
    # The list of views shows the latest first.
    return {
        SHARED_VIEW + SEEDS: _saved("Seeds by cell", 2, _seeds()),
        SHARED_VIEW + CELLS: _saved("Cells, mean and spread", 1, _cells()),
    }


def speed_view_tags(groups: Iterable[str]) -> dict[str, str]:
    """The tags that give the experiment of the timings its views: all benchmarks, and each group by itself.

    MLflow loads the newest 100 runs of a view, which are more commits of one group than of all benchmarks.
    """
    finished = "tags.`fedbench.kind` = 'benchmark' and status = 'FINISHED'"
    of_groups = {
        f"{SHARED_VIEW}{SPEED}-{group}": _saved(
            f"{SPEED_TITLE}: {group}", 1, _speed(f"{finished} and tags.`fedbench.group` = '{group}'")
        )
        for group in sorted(groups)
    }
    return {SHARED_VIEW + SPEED: _saved(SPEED_TITLE, 2, _speed(finished)), **of_groups}


def regression_view_tags(charts: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, str]:
    """The tags that give the experiment of the checks its views: all suites, and each of `charts` by itself.

    Parameters
    ----------
    charts
        By suite, or `SPEED` for the benchmarks of all checks, the charts: each is the metrics that are its lines. Those
        at the end that a tag has no room for are left out.
    """
    finished = "tags.`fedbench.kind` = 'check' and status = 'FINISHED'"
    overall = _checks(finished, CHECKS_TITLE, [[name] for name in OVERALL])
    return {
        SHARED_VIEW + REGRESSION: _saved(CHECKS_TITLE, 2, overall),
        **{f"{SHARED_VIEW}{REGRESSION}-{suite}": _fitting(finished, suite, own) for suite, own in charts.items()},
    }


def _fitting(finished: str, suite: str, charts: Sequence[Sequence[str]]) -> str:
    """The view of a suite with as many charts as there is room for."""
    own = "metrics.`largest_ratio` > 0" if suite == SPEED else f"tags.`fedbench.suite` = '{suite}'"
    title = f"{CHECKS_TITLE}: {suite}"
    group = "fedbench.kind" if suite == SPEED else "fedbench.suite"  # a benchmark is one line, whatever the suites
    views = (
        _saved(title, 1, _checks(f"{finished} and {own}", title, charts[:count], group))
        for count in range(len(charts), -1, -1)
    )
    return next(view for view in views if len(view) < MAX_TAG)


def tuning_view_tags(study: str, fields: Sequence[str], is_minimised: bool) -> dict[str, str]:
    """The tag that gives an experiment the view of a study's trials, the best first; `fields` are those searched."""
    return {SHARED_VIEW + TRIALS: _saved(TRIALS_TITLE, 3, _trials(study, fields, is_minimised))}


def view_address(server: str, experiment: str, view: str) -> str:
    """The address of a view in the UI of the MLflow server at `server`."""
    charts = {"compareRunsMode": "CHART"} if view != CELLS else {}
    query = {"viewStateShareKey": view, **charts, "workflowType": "machine_learning"}  # without the pages on agents
    return f"{server}/#/experiments/{experiment}/runs?{urlencode(query)}"


def _saved(name: str, created: int, state: dict[str, Any]) -> str:
    return json.dumps({"name": name, "createdAt": created, "state": json.dumps(state, separators=(",", ":"))})


def _seeds() -> dict[str, Any]:
    return {
        "searchFilter": "tags.`fedbench.kind` = 'run' and status = 'FINISHED'",
        # Not the time of creation: sorted by that, MLflow adds each run's parent to what the filter finds. And not a
        # measure: of more than 100 runs MLflow loads the first, and a cell's mean would be that of its best seeds.
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "fedbench.cell"}]},
        "runsHiddenMode": "FIRST_20_RUNS",  # groups in the charts; the default is 10
        **_columns(tags=["fedbench.verdict"], metrics=["accuracy", "balanced_accuracy", "loss", "averaging_gain"]),
        "compareRunCharts": [
            _chart("BAR", "accuracy"),
            _chart("LINE", "accuracy"),
            _chart("BAR", "averaging_gain"),
            _chart("LINE", "loss"),
            _chart("LINE", "balanced_accuracy"),
        ],
        "compareRunSections": [
            {"uuid": SHOWN_FIRST, "name": SHOWN_FIRST, "display": True, "columns": 2},
            *({"uuid": title, "name": title, "display": False} for title in FOLDED),
        ],
        "isAccordionReordered": True,  # the sections in this order, not by name
    }


def _cells() -> dict[str, Any]:
    spread = [f"accuracy/{part}" for part in ("mean", "std", "ci95_low", "ci95_high")]
    return {
        "searchFilter": "tags.`fedbench.kind` = 'cell'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        **_columns(tags=["fedbench.verdict"], metrics=[*spread, "balanced_accuracy/mean", "loss/mean"]),
    }


def _trials(study: str, fields: Sequence[str], is_minimised: bool) -> dict[str, Any]:
    measured = [f"validation/{name}" for name in ("accuracy", "balanced_accuracy", "loss")]
    first = next((field for field in fields if field == "learning_rate"), fields[0])
    return {
        "searchFilter": f"tags.`fedbench.kind` = 'trial' and tags.`fedbench.study` = '{study}'",
        "orderByKey": "metrics.`objective`",
        "orderByAsc": is_minimised,
        "runsHiddenMode": "SHOWALL",
        **_columns(tags=["fedbench.state", "fedbench.verdict"], params=fields, metrics=["objective", *measured]),
        "compareRunCharts": [
            {
                **_card("PARALLEL", "objective"),
                "selectedParams": list(fields),
                "selectedMetrics": ["objective"],
                "showAllRuns": True,
            },
            {
                **_card("SCATTER", "objective"),
                "xaxis": {"key": first, "type": "PARAM"},
                "yaxis": {"key": "objective", "type": "METRIC"},
                "runsCountToCompare": 100,
            },
            _chart("LINE", measured[0]),
        ],
        "compareRunSections": [
            {"uuid": SHOWN_FIRST, "name": TRIALS_TITLE, "display": True, "columns": 2},
            *({"uuid": title, "name": title, "display": False} for title in (FOLDED[0], "objective", "validation")),
        ],
        "isAccordionReordered": True,
    }


def _speed(search_filter: str) -> dict[str, Any]:
    metrics = ["yardstick_multiple", "median_seconds", "gflops_per_second", "gbytes_per_second"]
    return {
        "searchFilter": search_filter,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,  # of more than 100 runs the newest count
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": "fedbench.benchmark"}],
        },
        "runsHiddenMode": "SHOWALL",
        **_columns(tags=["fedbench.commit", "fedbench.machine"], metrics=[*metrics, "iqr_seconds"]),
        "compareRunCharts": [
            # The step is the number of commits. A benchmark takes 1000 times as long as another: hence the logarithm.
            _chart("LINE", metric) | {"scaleType": "log", "displayPoints": True}
            for metric in metrics[:2]
        ],
        "compareRunSections": [
            {"uuid": SHOWN_FIRST, "name": SPEED_TITLE, "display": True, "columns": 2},
            {"uuid": FOLDED[0], "name": FOLDED[0], "display": False},
        ],
        "isAccordionReordered": True,
    }


def _checks(
    search_filter: str, title: str, charts: Sequence[Sequence[str]], group: str = "fedbench.suite"
) -> dict[str, Any]:
    return {
        "searchFilter": search_filter,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,  # of more than 100 runs the newest count
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": group}]},
        "runsHiddenMode": "SHOWALL",
        **_columns(tags=["fedbench.outcome", "fedbench.commit", "fedbench.failed"], metrics=OVERALL),
        "compareRunCharts": [
            # The step is the number of commits. MLflow tells the metrics of a chart apart by their dashes.
            _chart("LINE", metrics[0]) | {"selectedMetricKeys": list(metrics), "displayPoints": True}
            for metrics in charts
        ],
        "compareRunSections": [
            {"uuid": SHOWN_FIRST, "name": title, "display": True, "columns": 2},
            *({"uuid": each, "name": each, "display": False} for each in CHECKS_FOLDED),
        ],
        "isAccordionReordered": True,
    }


def _columns(tags: Iterable[str], metrics: Iterable[str], params: Iterable[str] = ()) -> dict[str, Any]:
    """The table's columns, in this order; widths in pixels."""
    groups = {"tags": tags, "params": params, "metrics": metrics}
    keys = [f"{group}.`{name}`" for group, names in groups.items() for name in names]
    widths = {"attributes.`Run Name`": 300, "runDateAndNestInfo": 135, "duration": 75} | dict.fromkeys(keys, 115)
    return {"selectedColumns": keys, "columnOrder": list(widths), "columnWidths": widths}


def _chart(kind: str, metric: str) -> dict[str, Any]:
    card = _card(kind, metric) | {"metricKey": metric}
    return card | ({"lineSmoothness": 0} if kind == "LINE" else {})  # left out, MLflow smooths what was measured


def _card(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "uuid": f"{kind} {name}", "metricSectionId": SHOWN_FIRST}
