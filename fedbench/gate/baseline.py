"""Baselines: what every run of a suite gave, in a file that is committed with the code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fedbench.executors import THREADS
from fedbench.gate import BASELINES
from fedbench.gate.files import Update, read_stored
from fedbench.measures import Verdict, without_skill
from fedbench.runs.computing import computed_with
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.suites.cell import CellSpec
from fedbench.suites.fields import implied, in_order, without_implied
from fedbench.suites.files import argument_of
from fedbench.suites.schema import Cell, Suite
from fedbench.util.advice import command, data_command
from fedbench.util.commits import commit_of
from fedbench.util.environment import KERNELS, environment
from fedbench.util.errors import BaselineError
from fedbench.util.frozen import Frozen
from fedbench.util.text import show, unknown

MARGIN = 0.01  # the default equivalence margin of an accuracy, a fraction
RESERVE = 5  # the default number of seeds beyond the suite's
METRICS = ("accuracy", "balanced_accuracy")  # that can be judged; higher is better. The first is the default


class RoundRecord(Frozen):
    """A round of a run.

    `metrics` has those of the run as a whole, null where not finite; `others` is a digest of all the others. `model`
    and `clients` are digests of the averaged model and of the clients' own models, by client.
    """

    metrics: dict[str, float | None]
    others: str
    model: str
    clients: dict[str, str]


class SeedRecord(Frozen):
    """A run: its verdict, why it failed, its rounds, and a digest of its interpolation if it has one."""

    seed: int
    verdict: Verdict
    reason: str | None
    rounds: tuple[RoundRecord, ...]
    interpolation: str | None = None


class CellRecord(Frozen):
    """A cell: its spec, the digest of its data, and its runs by seed."""

    label: str
    spec: dict[str, Any]
    data: str
    seeds: Annotated[tuple[SeedRecord, ...], Field(min_length=1)]

    @property
    def by_seed(self) -> dict[int, SeedRecord]:
        """Its runs by seed."""
        return {record.seed: record for record in self.seeds}


class Baseline(Frozen):
    """A baseline. `environment` is what its bits depend on; `history` is oldest first."""

    format: Literal[1] = 1
    suite: str
    metric: str
    margin: Annotated[float, Field(gt=0, lt=1)]
    revision: int
    environment: dict[str, str]
    history: Annotated[tuple[Update, ...], Field(min_length=1)]
    cells: Annotated[tuple[CellRecord, ...], Field(min_length=1)]

    @field_validator("metric")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in METRICS:
            raise ValueError(unknown("metric", value, METRICS))
        return value

    @property
    def commit(self) -> str:
        """The commit that was measured."""
        return self.history[-1].commit

    def of(self, cell: Cell) -> CellRecord | None:
        """The record of a cell; None if none has its label and spec."""
        same = (each for each in self.cells if each.label == cell.label)
        return next((each for each in same if not _first_difference(each.spec, cell.spec)), None)


def new_baseline(
    suite: Suite,
    cells: tuple[CellRecord, ...],
    device: str,
    reason: str | None,
    before: Baseline | None,
    margin: float | None = None,
    metric: str | None = None,
    allow_collapsed: bool = False,
) -> Baseline:
    """The baseline of what was measured; margin, metric and history continue those of the one before.

    Raises `BaselineError` if a run failed; or, without `allow_collapsed`, if a model collapsed or diverged.
    """
    for cell in cells:
        if failed := [record for record in cell.seeds if record.verdict is Verdict.FAILED]:
            reason = f"{cell.label} seed={failed[0].seed} failed: {failed[0].reason}"
            raise BaselineError(f"no baseline is written, since a run failed: {reason}")
    if (dead := dead_cells(cells)) and not allow_collapsed:
        raise BaselineError(
            f"no baseline is written, since models collapsed or diverged: {'; '.join(dead)}: correct the suite, or "
            "keep them with --allow-collapsed"
        )
    commit, today = commit_of(suite.path.parent, Path.cwd()).name, datetime.now(UTC).date().isoformat()
    update = Update(commit=commit, date=today, reason=reason or "first baseline")
    return Baseline(
        suite=suite.name,
        metric=metric or (before.metric if before else METRICS[0]),
        margin=margin or (before.margin if before else MARGIN),
        revision=ALGORITHM_REVISION,
        environment=environment_of(suite, device),
        history=(*(before.history if before else ()), update),
        cells=cells,
    )


def dead_cells(cells: Iterable[CellRecord]) -> list[str]:
    """The cells with models that collapsed or diverged: ``grid num_clients=2 (collapsed in 3 of 5 seeds)``."""
    found = ((cell.label, without_skill([each.verdict for each in cell.seeds])) for cell in cells)
    return [f"{label} ({lost})" for label, lost in found if lost]


def environment_of(suite: Suite, device: str) -> dict[str, str]:
    """What the bits of a suite's runs depend on apart from its cells, its data and the code."""
    if all(computed_with(cell.spec, device) == KERNELS for cell in suite.cells):
        return {"computed with": KERNELS}
    return environment(device, THREADS)


def reserve_seeds(suite: Suite, before: Baseline | None, number: int | None) -> tuple[int, ...]:
    """The seeds that a baseline has beyond the suite's, the next larger ones; by default as many as the one before."""
    if number is None:
        known = {record.seed for cell in before.cells for record in cell.seeds} if before else set()
        number = len(known - set(suite.seeds)) if before else RESERVE
    first = max(suite.seeds) + 1
    return tuple(range(first, first + number))


def read_baseline(path: Path, suite: str, given: str = "") -> Baseline:
    """Read the baseline of the suite of that name; `given` is how commands name it, such as by its file.

    Raises `BaselineError` if the file is missing, unreadable, no baseline, of another format or suite, or was changed
    by hand.
    """
    baseline = read_stored(path, Baseline, _make(given or suite, path))
    if baseline.suite != suite:
        raise BaselineError(f"{path} is the baseline of suite {baseline.suite}, not of {suite}: delete it or rename it")
    return baseline


def comparable_baseline(path: Path, suite: Suite, seeds_are_given: bool, margin: float | None = None) -> Baseline:
    """Read the baseline of a suite and require that it fits; with another margin if there is one.

    Raises `BaselineError`: see `read_baseline`, `require_comparable` and `require_judgeable`.
    """
    baseline = read_baseline(path, suite.name, argument_of(suite.name, suite.path))
    require_comparable(baseline, suite, seeds_are_given, path)
    require_judgeable(margin, None)
    return baseline if margin is None else baseline.model_copy(update={"margin": margin})


def require_judgeable(margin: float | None, metric: str | None) -> None:
    """Refuse a margin or a metric that nothing can be judged by, with a `BaselineError`."""
    if margin is not None and not 0 < margin < 1:
        raise BaselineError(f"--margin {margin}: give a fraction between 0 and 1, such as 0.01 for one point")
    if metric is not None and metric not in METRICS:
        raise BaselineError(f"--metric: {unknown('metric', metric, METRICS)}")


def require_comparable(baseline: Baseline, suite: Suite, seeds_are_given: bool, path: Path) -> None:
    """Refuse a baseline of another revision, or with other cells or seeds than the suite has, with a `BaselineError`.

    `seeds_are_given`: the user chose the seeds, so that they may be others than the baseline's.
    """
    recreate = _recreate(argument_of(suite.name, suite.path), path)
    if baseline.revision != ALGORITHM_REVISION:
        raise BaselineError(
            f"{path} has revision {baseline.revision} of the algorithm, this is {ALGORITHM_REVISION}: {recreate}"
        )
    records = {record.label: record for record in baseline.cells}
    if new := [cell.label for cell in suite.cells if cell.label not in records]:
        raise BaselineError(f"{path} lacks cell {_and_more(new)} of the suite: {recreate}")
    if gone := sorted(records.keys() - {cell.label for cell in suite.cells}):
        raise BaselineError(f"{path} has cell {_and_more(gone)}, which the suite lacks: {recreate}")
    for cell in suite.cells:
        record = records[cell.label]
        if difference := _first_difference(record.spec, cell.spec):
            raise BaselineError(f"{path} has another spec: cell {cell.label} has {difference}: {recreate}")
        if not seeds_are_given and (lacking := [seed for seed in cell.seeds if seed not in record.by_seed]):
            raise BaselineError(f"{path} lacks seed {_and_more(lacking)} of cell {cell.label}: {recreate}")


def require_data(baseline: Baseline, cells: Iterable[CellRecord], path: Path, given: str = "") -> None:
    """Refuse a baseline of other data, with a `BaselineError`."""
    before = {record.label: record.data for record in baseline.cells}
    for cell in cells:
        if before[cell.label] != cell.data:
            raise BaselineError(
                f"{path} was made with other data of {cell.spec['dataset']}: restore the data (see: "
                f"{data_command('verify', cell.spec['dataset'])}), or {_recreate(given or baseline.suite, path)}"
            )


def _recreate(suite: str, path: Path) -> str:
    return f"recreate the baseline with: {_make(suite, path, 'TEXT')}"


def _make(suite: str, path: Path, reason: str | None = None) -> str:
    folder = None if path.parent == BASELINES else path.parent
    return command("fedbench", "baseline", suite, baselines=folder, reason=reason)


def _first_difference(recorded: Mapping[str, Any], now: CellSpec) -> str | None:
    """The first scenario field that differs. One that an older baseline lacks had its default; null is absent."""
    before, after = CellSpec.model_construct().values | dict(recorded), now.values
    had = implied(before)
    before, after = without_implied(before), without_implied(after)
    name = next((name for name in in_order({**before, **after}) if before.get(name) != after.get(name)), None)
    return f"{name} {show(now.get(name))}, was {show(before.get(name, had.get(name)))}" if name else None


def _and_more(names: Sequence[object]) -> str:
    return f"{names[0]}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
