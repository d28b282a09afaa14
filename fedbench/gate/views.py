"""The views of the checks in MLflow's UI: all suites, and each suite by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedbench.tracking.mlflow.views import MAX_TAG, chart, columns, grouped_by, saved_view, sections

REGRESSION = "regression"  # the experiment and its view; "regression-" and a suite's name for that suite
SPEED_ALONE = "speed"  # in place of a suite's name: the benchmarks of all checks
TITLE = "Checks over commits"
OVERALL = ("failures", "worst_difference", "largest_ratio")  # the metrics that the check of any suite can have
FOLDED = ("Model metrics", "accuracy", "balanced_accuracy", "difference", "ratio", "std")


def regression_view_tags(charts: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, str]:
    """The tags that give the experiment of the checks its views.

    `charts` are by suite, or `SPEED_ALONE`; each is the metrics that are its lines. Those at the end that a tag has no
    room for are left out.
    """
    finished = "tags.`fedbench.kind` = 'check' and status = 'FINISHED'"
    views = saved_view(REGRESSION, TITLE, 2, _checks(finished, TITLE, [[name] for name in OVERALL]))
    for suite, own in charts.items():
        views |= _fitting(finished, suite, own)
    return views


def _fitting(finished: str, suite: str, charts: Sequence[Sequence[str]]) -> dict[str, str]:
    """The view of a suite with as many charts as there is room for."""
    is_speed = suite == SPEED_ALONE
    own = "metrics.`largest_ratio` > 0" if is_speed else f"tags.`fedbench.suite` = '{suite}'"
    title = f"{TITLE}: {suite}"
    group = "fedbench.kind" if is_speed else "fedbench.suite"  # a benchmark is one line, whatever the suites
    for count in range(len(charts), -1, -1):
        state = _checks(f"{finished} and {own}", title, charts[:count], group)
        view = saved_view(f"{REGRESSION}-{suite}", title, 1, state)
        if all(len(text) < MAX_TAG for text in view.values()):
            break
    return view


def _checks(
    search_filter: str, title: str, charts: Sequence[Sequence[str]], group: str = "fedbench.suite"
) -> dict[str, Any]:
    return {
        "searchFilter": search_filter,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,  # of more than 100 runs the newest count
        **grouped_by(group),
        "runsHiddenMode": "SHOWALL",
        **columns(tags=["fedbench.outcome", "fedbench.commit", "fedbench.failed"], metrics=OVERALL),
        "compareRunCharts": [
            # The step is the number of commits. MLflow tells the metrics of a chart apart by their dashes.
            chart("LINE", metrics[0]) | {"selectedMetricKeys": list(metrics), "displayPoints": True}
            for metrics in charts
        ],
        **sections(title, FOLDED),
    }
