"""What cells are compared by, and a cell's values by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fedbench.measures import RunResult, Verdict
from fedbench.reports.measure import MEASURES, Measure
from fedbench.suites.contrast import ContrastMeasure
from fedbench.tracking.records import CellResult

UNBALANCED = 1.5  # times an equal share of the test set that the largest class has, from which balanced accuracy counts
NAMED = (Verdict.DIVERGED, Verdict.COLLAPSED)  # verdicts of seeds whose cell is named instead of compared


def main_measure(results: Sequence[CellResult], chosen: ContrastMeasure | None) -> Measure:
    """The chosen measure, else accuracy, or balanced accuracy where the classes of the test set are unbalanced.

    Runs that stop at their target have its accuracy and little more: they are compared by their rounds.
    """
    if chosen is None and any(each.cell.spec.stop_at_target for each in results):
        chosen = ContrastMeasure.ROUNDS_TO_TARGET
    if chosen is None:
        runs = [run.metrics for each in results for run in each.results.values() if "majority_rate" in run.metrics]
        unbalanced = any(run["majority_rate"] * _num_classes(run) >= UNBALANCED for run in runs)
        chosen = ContrastMeasure.BALANCED_ACCURACY if unbalanced else ContrastMeasure.ACCURACY
    return MEASURES[chosen]


def _num_classes(metrics: Mapping[str, float]) -> int:
    return sum(name.startswith("recall/") for name in metrics)


def values_by_seed(result: CellResult, measure: Measure) -> tuple[Mapping[int, float], str | None]:
    """A cell's values by seed, and why it is not compared; None if it is.

    A failed or skipped run has no value. One that collapsed or diverged keeps its cell from being compared: its number
    is not a worse one of the same kind. So does one that did not reach its target: how many rounds it would have taken
    is not known, and the other seeds alone would be the quicker ones.
    """
    runs = {seed: run for seed, run in result.results.items() if run.metrics and run.verdict is not Verdict.FAILED}
    counts = Counter(run.verdict for run in runs.values())
    for verdict in NAMED:
        if counts[verdict]:
            return {}, f"{verdict} in {_share(counts[verdict], len(runs))}"
    values = {seed: value for seed, run in runs.items() if (value := _value(run, measure)) is not None}
    if not runs:
        return {}, str(result.verdict)
    if missing := len(runs) - len(values):
        if measure.unit in ("rounds", "MB") and result.cell.spec.target_accuracy is not None:
            return {}, f"did not reach the target in {_share(missing, len(runs))}"
        return {}, f"no {measure.words} on record"
    return values, None


def _share(count: int, total: int) -> str:
    """``2 of 5 seeds``."""
    return f"{count} of {total} seeds" if total > 1 else "one seed"


def _value(run: RunResult, measure: Measure) -> float | None:
    """The value after the last round; None if there is none."""
    if measure.metric == ContrastMeasure.WORST_CLIENT:
        return min(run.client_accuracy.values(), default=None)
    return run.metrics.get(measure.metric)
