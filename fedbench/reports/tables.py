"""A suite's runs as tidy tables: a row for each run, or for each run and round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd

from fedbench.measures import RunResult, Verdict, run_result
from fedbench.tracking.records import INTERPOLATION, RunRecord, StoredCell, StoredSuite
from fedbench.util.errors import StoreError
from fedbench.util.files import plain_errors, replacing
from fedbench.util.progress import progress

if TYPE_CHECKING:
    from fedbench.runs.suite_run import Outcome
    from fedbench.suites.schema import Cell

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # beginnings
WRITERS: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    ".csv": lambda table, file: table.map(_no_formula).to_csv(file, index=False),
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
}


def table_of_outcomes(outcomes: Iterable[Outcome], cells: Iterable[Cell]) -> pd.DataFrame:
    """A row for each outcome, in the order of the suite's cells and seeds."""
    by_run = {outcome.run: outcome for outcome in outcomes}
    done = [by_run[run] for cell in cells for run in cell.runs() if run in by_run]
    return pd.DataFrame(
        {
            "suite": each.run.suite,
            "scenario": each.run.scenario,
            "cell": each.run.cell,
            "seed": each.run.seed,
            **_of_result(each.result),
            "executed": each.executed,
            **each.run.spec.values,
            **_measures(each.result),
        }
        for each in done
    )


def table_of_runs(stored: StoredSuite) -> pd.DataFrame:
    """A row for each run that counts: its id, cell, seed, verdict and fields, and what its last round measured."""
    rows = []
    for cell in stored.cells:
        for seed, run in cell.runs.items():
            verdict = Verdict(run.tags["fedbench.verdict"])
            metrics = {name: value for name, value in run.metrics.items() if not name.startswith(INTERPOLATION)}
            result = run_result(verdict, run.tags.get("fedbench.reason"), metrics)
            about = _about(stored, cell, seed, run)
            rows.append(about | _of_result(result) | cell.spec.values | _measures(result))
    return pd.DataFrame(rows)


def table_of_rounds(stored: StoredSuite) -> pd.DataFrame:
    """A row for each run and round: the run's id, cell, seed, verdict and fields, and the value of each metric.

    A metric that was not measured in a round is empty. Metrics of the interpolation, which have no round, are left out.

    Raises
    ------
    StoreError
        If the runs cannot be read.
    """
    runs = [(cell, seed, run) for cell in stored.cells for seed, run in cell.runs.items()]
    rows: list[dict[str, Any]] = []
    with progress(f"reading {stored.name}", len(runs), "runs") as advance:
        for cell, seed, run in runs:
            rows += _rounds(stored, cell, seed, run)
            advance(1, cell.label)
    return pd.DataFrame(rows)


def export_suite(stored: StoredSuite, out: Path) -> int:
    """Write a suite's runs to `out` in the format of its suffix, and return the number of rows.

    See `table_of_rounds`.

    Raises
    ------
    StoreError
        If the suffix is unknown, or the runs cannot be read.
    DataError
        If the file cannot be written.
    """
    require_known_suffix(out)
    table = table_of_rounds(stored)
    with plain_errors(f"{out} cannot be written"), replacing(out) as file:
        WRITERS[out.suffix](table, file)
    return len(table)


def _no_formula(cell: object) -> object:
    """Text that a spreadsheet would compute, after an apostrophe that it takes for the sign of text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def require_known_suffix(out: Path) -> None:
    """Raise `StoreError` if `out` is in no known format."""
    if out.suffix not in WRITERS:
        raise StoreError(f"--out {out}: it ends in {out.suffix or 'nothing'}; choose {' or '.join(WRITERS)}")


def _about(stored: StoredSuite, cell: StoredCell, seed: int, run: RunRecord) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "suite": stored.name,
        "scenario": cell.scenario,
        "cell": cell.label,
        "seed": seed,
    }


def _of_result(result: RunResult) -> dict[str, Any]:
    return {"verdict": str(result.verdict), "reason": result.reason}


def _measures(result: RunResult) -> dict[str, float]:
    """The final metrics; the clients' own accuracies by their mean."""
    alone = {"client_accuracy": fmean(result.client_accuracy.values())} if result.client_accuracy else {}
    return {**result.metrics, **alone}


def _rounds(stored: StoredSuite, cell: StoredCell, seed: int, run: RunRecord) -> list[dict[str, Any]]:
    verdict = {"verdict": run.tags.get("fedbench.verdict")}
    common = _about(stored, cell, seed, run) | verdict | cell.spec.values
    by_round: dict[int, dict[str, float]] = defaultdict(dict)
    for name in sorted(run.metrics):
        if not name.startswith(INTERPOLATION):
            for step, value in stored.source.history(run.run_id, name).items():
                by_round[step][name] = value
    return [common | {"round": step} | metrics for step, metrics in sorted(by_round.items())]
