"""The views of the timings in MLflow's UI: all benchmarks, and each group by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fedbench.tracking.mlflow.views import chart, columns, grouped_by, saved_view, sections

SPEED = "speed"  # the experiment and its view; "speed-" and its name for a group
TITLE = "Speed over commits"


def speed_view_tags(groups: Iterable[str]) -> dict[str, str]:
    """The tags that give the experiment of the timings its views.

    MLflow loads the newest 100 runs of a view, which are more commits of one group than of all benchmarks.
    """
    finished = "tags.`fedbench.kind` = 'benchmark' and status = 'FINISHED'"
    views = saved_view(SPEED, TITLE, 2, _speed(finished))
    for group in sorted(groups):
        of_group = _speed(f"{finished} and tags.`fedbench.group` = '{group}'")
        views |= saved_view(f"{SPEED}-{group}", f"{TITLE}: {group}", 1, of_group)
    return views


def _speed(search_filter: str) -> dict[str, Any]:
    metrics = ["yardstick_multiple", "median_seconds", "gflops_per_second", "gbytes_per_second"]
    return {
        "searchFilter": search_filter,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,  # of more than 100 runs the newest count
        **grouped_by("fedbench.benchmark"),
        "runsHiddenMode": "SHOWALL",
        **columns(tags=["fedbench.commit", "fedbench.machine"], metrics=[*metrics, "iqr_seconds"]),
        "compareRunCharts": [
            # The step is the number of commits. Benchmarks differ by a factor of 1000: hence the logarithm.
            chart("LINE", metric) | {"scaleType": "log", "displayPoints": True}
            for metric in metrics[:2]
        ],
        **sections(TITLE, ["Model metrics"]),
    }
