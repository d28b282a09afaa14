"""Keeps a report with the runs that it is about."""

from __future__ import annotations

from pathlib import Path

from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.describe import NOTE
from fedbench.tracking.mlflow.reading import search_runs
from fedbench.tracking.mlflow.store import experiment_of, open_store
from fedbench.util.environment import SOURCE_TAGS


def log_report(uri: str, suite_name: str, page: Path) -> None:
    """Store a report's page in a run of the suite's experiment, the same run each time."""
    client = open_store(uri)
    experiment_id = experiment_of(client, suite_name).experiment_id
    if found := search_runs(client, experiment_id, "tags.`fedbench.kind` = 'report'"):
        run_id = found[0].info.run_id
    else:
        tags = {
            "fedbench.schema": str(SCHEMA_VERSION),
            "fedbench.kind": "report",
            "fedbench.suite": suite_name,
            NOTE: f"The suite's report: open {page.name} under Artifacts.",
            **SOURCE_TAGS,
        }
        run_id = client.create_run(experiment_id, run_name="report", tags=tags).info.run_id
    client.log_artifact(run_id, str(page))
    client.set_terminated(run_id, "FINISHED")
