"""Writes a suite's runs as one tidy table: a row for each run and round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from fedbench.tracking.records import INTERPOLATION, RunRecord, StoredCell, StoredSuite
from fedbench.util.errors import StoreError
from fedbench.util.files import plain_errors, replacing
from fedbench.util.progress import progress

WRITERS: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    ".csv": lambda table, file: table.to_csv(file, index=False),
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
}


def export_suite(stored: StoredSuite, out: Path) -> int:
    """Write a suite's runs to `out` in the format of its suffix, and return the number of rows.

    A row has the run's id, scenario, cell, seed, verdict and fields, the round, and the value of each metric in it. A
    metric that was not measured in a round is empty. Metrics of the interpolation, which have no round, are left out.

    Raises
    ------
    StoreError
        If the suffix is unknown, or the runs cannot be read.
    DataError
        If the file cannot be written.
    """
    require_known_suffix(out)
    runs = [(cell, seed, run) for cell in stored.cells for seed, run in cell.runs.items()]
    rows: list[dict[str, Any]] = []
    with progress(f"reading {stored.name}", len(runs), "runs") as advance:
        for cell, seed, run in runs:
            rows += _rows(stored, cell, seed, run)
            advance(1, cell.label)
    table = pd.DataFrame(rows)
    with plain_errors(f"{out} cannot be written"), replacing(out) as file:
        WRITERS[out.suffix](table, file)
    return len(table)


def require_known_suffix(out: Path) -> None:
    """Raise `StoreError` if `out` is in no known format."""
    if out.suffix not in WRITERS:
        raise StoreError(f"--out {out}: it ends in {out.suffix or 'nothing'}; choose {' or '.join(WRITERS)}")


def _rows(stored: StoredSuite, cell: StoredCell, seed: int, run: RunRecord) -> list[dict[str, Any]]:
    common = {
        "run_id": run.run_id,
        "suite": stored.name,
        "scenario": cell.scenario,
        "cell": cell.label,
        "seed": seed,
        "verdict": run.tags.get("fedbench.verdict"),
        **cell.spec.values,
    }
    by_round: dict[int, dict[str, float]] = defaultdict(dict)
    for name in sorted(run.metrics):
        if not name.startswith(INTERPOLATION):
            for step, value in stored.source.history(run.run_id, name).items():
                by_round[step][name] = value
    return [common | {"round": step} | metrics for step, metrics in sorted(by_round.items())]
