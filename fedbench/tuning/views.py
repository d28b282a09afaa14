"""The view of a study's trials in MLflow's UI."""

from __future__ import annotations

from collections.abc import Sequence

from fedbench.tracking.mlflow.views import card, chart, columns, saved_view, sections

TRIALS = "trials"


def tuning_view_tags(study: str, fields: Sequence[str], is_minimised: bool) -> dict[str, str]:
    """The tag that gives an experiment the view of a study's trials, the best first; `fields` are those searched."""
    measured = [f"validation/{name}" for name in ("accuracy", "balanced_accuracy", "loss")]
    first = next((field for field in fields if field == "learning_rate"), fields[0])
    state = {
        "searchFilter": f"tags.`fedbench.kind` = 'trial' and tags.`fedbench.study` = '{study}'",
        "orderByKey": "metrics.`objective`",
        "orderByAsc": is_minimised,
        "runsHiddenMode": "SHOWALL",
        **columns(tags=["fedbench.state", "fedbench.verdict"], params=fields, metrics=["objective", *measured]),
        "compareRunCharts": [
            {
                **card("PARALLEL", "objective"),
                "selectedParams": list(fields),
                "selectedMetrics": ["objective"],
                "showAllRuns": True,
            },
            {
                **card("SCATTER", "objective"),
                "xaxis": {"key": first, "type": "PARAM"},
                "yaxis": {"key": "objective", "type": "METRIC"},
                "runsCountToCompare": 100,
            },
            chart("LINE", measured[0]),
        ],
        **sections("Trials compared", ["Model metrics", "objective", "validation"]),
    }
    return saved_view(TRIALS, "Trials compared", 3, state)
