"""A suite's baseline made from what was measured, and what was measured checked against one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedbench.gate.accuracy import check_cells
from fedbench.gate.baseline import MARGIN, METRICS, Baseline, CellRecord
from fedbench.gate.checks import AccuracyCheck
from fedbench.gate.environment import differences, environment
from fedbench.gate.stored_file import update
from fedbench.measures import Verdict
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.suites.schema import Suite, unknown
from fedbench.util.commits import commit_of
from fedbench.util.errors import BaselineError


def require_judgeable(margin: float | None, metric: str | None) -> None:
    """Refuse a margin or a metric that nothing can be judged by.

    Raises
    ------
    BaselineError
        One line that names the option.
    """
    if margin is not None and not 0 < margin < 1:
        raise BaselineError(f"--margin {margin}: give a fraction between 0 and 1, such as 0.01 for one point")
    if metric is not None and metric not in METRICS:
        raise BaselineError(f"--metric: {unknown('metric', metric, METRICS)}")


def check_against_baseline(
    suite: Suite,
    baseline: Baseline,
    now: Sequence[CellRecord],
    device: str,
    seconds: float,
    margin: float | None = None,
    ignore_bits: bool = False,
) -> AccuracyCheck:
    """Compare what was measured with a baseline, in the cells that both have.

    Parameters
    ----------
    now
        The suite's cells as they are now.
    device
        What they were computed on.
    seconds
        How long that took.
    margin
        A fraction, in place of the baseline's.
    ignore_bits
        Judge by statistics alone, also in the baseline's environment.
    """
    by_label = {record.label: record for record in now}
    pairs = [(cell, before, by_label[cell.label]) for cell in suite.cells if (before := baseline.of(cell))]
    others = differences(baseline.environment, environment(device))
    used = margin or baseline.margin
    compare_bits = not others and not ignore_bits and baseline.revision == ALGORITHM_REVISION
    cells = check_cells(pairs, baseline.metric, used, compare_bits)
    return AccuracyCheck(suite.name, baseline.metric, used, baseline.commit, others, compare_bits, cells, seconds)


def new_baseline(
    suite: Suite,
    cells: tuple[CellRecord, ...],
    device: str,
    reason: str | None,
    before: Baseline | None,
    margin: float | None = None,
    metric: str | None = None,
) -> Baseline:
    """The baseline of what was measured; margin, metric and history go on from the one before.

    Raises
    ------
    BaselineError
        If a run failed: what does not work is nothing to compare with.
    """
    for cell in cells:
        if failed := [record for record in cell.seeds if record.verdict is Verdict.FAILED]:
            reason = f"{cell.label} seed={failed[0].seed} failed: {failed[0].reason}"
            raise BaselineError(f"no baseline is written, since a run of it failed: {reason}")
    return Baseline(
        suite=suite.name,
        metric=metric or (before.metric if before else METRICS[0]),
        margin=margin or (before.margin if before else MARGIN),
        revision=ALGORITHM_REVISION,
        environment=environment(device),
        history=(*(before.history if before else ()), update(commit_of(Path.cwd()).name, reason)),
        cells=cells,
    )
