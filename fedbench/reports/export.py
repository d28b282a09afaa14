"""A suite's runs as one tidy table in a file: a row for each run and round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fedbench.reports.reading import parameter
from fedbench.tracking.mlflow.reading import INTERPOLATION, infinite
from fedbench.tracking.mlflow.store import store_errors
from fedbench.util.errors import StoreError
from fedbench.util.files import plain_errors, replacing
from fedbench.util.progress import progress

if TYPE_CHECKING:
    from typing import BinaryIO

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from fedbench.reports.reading import StoredSuite

WRITERS: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    ".csv": lambda table, file: table.to_csv(file, index=False),
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
}


def export_suite(stored: StoredSuite, out: Path) -> int:
    """Write the runs that count of a suite to `out`, as its ending says; returns the number of rows.

    A row has the run's id, scenario, cell, seed, verdict and parameters, the round, and each metric's value in it;
    what was not measured in a round is empty. The interpolation's metrics, which have no round, are left out.

    Raises
    ------
    StoreError
        If the ending is unknown, or the runs cannot be read.
    """
    require_known_ending(out)
    rows: list[dict[str, Any]] = []
    runs = [(cell.cell.label, seed, run) for cell in stored.cells for seed, run in cell.runs.items()]
    with progress(f"reading {stored.suite.name}", len(runs), "runs") as advance:
        for label, seed, run in runs:
            with store_errors(stored.uri):
                rows += _rows(stored.client, label, seed, run)
            advance(1, label)
    table = pd.DataFrame(rows)
    with plain_errors(f"{out} cannot be written"), replacing(out) as file:
        WRITERS[out.suffix](table, file)
    return len(table)


def require_known_ending(out: Path) -> None:
    """Refuse a file that is neither kind of table.

    Raises
    ------
    StoreError
        One line that names the kinds.
    """
    if out.suffix not in WRITERS:
        raise StoreError(f"--out {out}: it ends in {out.suffix or 'nothing'}; choose {' or '.join(WRITERS)}")


def _rows(client: MlflowClient, label: str, seed: int, run: Run) -> list[dict[str, Any]]:
    tags = run.data.tags
    common = {
        "run_id": run.info.run_id,
        "suite": tags.get("fedbench.suite"),
        "scenario": tags.get("fedbench.scenario"),
        "cell": label,
        "seed": seed,
        "verdict": tags.get("fedbench.verdict"),
        **{key: parameter(text) for key, text in run.data.params.items() if key != "seed"},
    }
    by_round: dict[int, dict[str, float]] = {}
    for key in sorted(run.data.metrics):
        if not key.startswith(INTERPOLATION):
            for point in client.get_metric_history(run.info.run_id, key):
                by_round.setdefault(point.step, {})[key] = infinite(point.value)
    return [common | {"round": step} | metrics for step, metrics in sorted(by_round.items())]
