"""Baselines: what every run of a suite gave, in a file that is committed with the code.

The file is JSON, sorted and with a line a round, so that a change of it can be reviewed. Its checksum is there to find
slips of the hand, not to keep anybody from changing it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from fedbench.errors import BaselineError, one_line
from fedbench.files import plain_errors, replacing
from fedbench.frozen import Frozen
from fedbench.measures import Verdict
from fedbench.runner import ALGORITHM_REVISION
from fedbench.specs import Cell, CellSpec, Suite, unknown

FORMAT = 1  # of the file
FOLDER = Path("baselines")
MARGIN = 0.01  # what an accuracy may differ by without mattering, as a fraction
FIRST_REASON = "first baseline"
LINE = 400  # a value is written on one line if it has fewer characters

METRICS = ("accuracy", "balanced_accuracy")  # that can be judged; more is better. The first is the default

Margin = Annotated[float, Field(gt=0, lt=1)]


class Update(Frozen):
    """One making of the file: at which commit, on which day (UTC), and why."""

    commit: str
    date: str
    reason: str


class RoundRecord(Frozen):
    """A round of a run.

    `metrics` has those of the run as a whole, null for what is not finite; `others` is a digest of all further ones.
    `model` and `clients` are the digests of the averaged model and of the clients' own models, by client.
    """

    metrics: dict[str, float | None]
    others: str
    model: str
    clients: dict[str, str]


class SeedRecord(Frozen):
    """A run: how it ended, its rounds, and a digest of its interpolation if it has one."""

    seed: int
    verdict: Verdict
    reason: str | None
    rounds: tuple[RoundRecord, ...]
    interpolation: str | None = None


class CellRecord(Frozen):
    """A cell: its spec, the digest of its data, and its runs by seed."""

    label: str
    spec: CellSpec
    data: str
    seeds: Annotated[tuple[SeedRecord, ...], Field(min_length=1)]

    @property
    def by_seed(self) -> dict[int, SeedRecord]:
        """Its runs by seed."""
        return {record.seed: record for record in self.seeds}


class Baseline(Frozen):
    """A baseline; see the fields' own types. `history` is oldest first."""

    format: Literal[1] = 1
    suite: str
    metric: str
    margin: Margin
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
        """The commit that its numbers are of."""
        return self.history[-1].commit

    def of(self, cell: Cell) -> CellRecord | None:
        """The record of a cell; None if there is none of its label and spec."""
        return next((each for each in self.cells if each.label == cell.label and each.spec == cell.spec), None)


def baseline_path(suite: Suite, folder: Path) -> Path:
    """Where the baseline of a suite is."""
    return folder / f"{suite.name}.json"


def read_baseline(path: Path, suite: str) -> Baseline:
    """Read the baseline of the suite of that name.

    Raises
    ------
    BaselineError
        If the file is missing, unreadable, no baseline, of another schema or suite, or changed by hand.
    """
    anew = f"make it anew with: fedbench baseline {suite} --reason TEXT"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BaselineError(f"there is no {path}: make it with fedbench baseline {suite}") from None
    except OSError as error:
        raise BaselineError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BaselineError(f"{path} is not JSON: restore it, or delete it and {anew}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise BaselineError(f"{path} is no baseline: restore it, or delete it and {anew}")
    if content["format"] != FORMAT:
        raise BaselineError(f"{path} has format {content['format']!r:.20}, this fedbench reads {FORMAT}: {anew}")
    checksum = content.pop("checksum", None)
    try:
        baseline = Baseline.model_validate_json(json.dumps(content))
    except ValueError as error:  # pydantic's among them
        raise BaselineError(f"{path}: {_first_fault(error)}: restore it, or delete it and {anew}") from None
    if checksum != _checksum(content):
        raise BaselineError(f"{path} was changed by hand (its checksum): restore it, or delete it and {anew}")
    if baseline.suite != suite:
        raise BaselineError(f"{path} is the baseline of suite {baseline.suite}, not of {suite}: {anew}")
    return baseline


def _first_fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return one_line(error)
    first = error.errors()[0]
    said = first.get("ctx", {}).get("error", first["msg"])  # pydantic's own text names the kind of error first
    return " ".join(f"{'.'.join(map(str, first['loc']))}: {said}".split())[:300]


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    content = baseline.model_dump(mode="json")
    content["checksum"] = _checksum(content)
    with plain_errors(f"cannot write {path}"), replacing(path) as file:
        file.write((_laid_out(content) + "\n").encode())


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON with sorted keys; what is short is on one line."""
    line = json.dumps(value, sort_keys=True, allow_nan=False)
    if (len(line) <= LINE and indent) or not isinstance(value, dict | list) or not value:
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        parts = [f"{deeper}{json.dumps(key)}: {_laid_out(value[key], deeper)}" for key in sorted(value)]
    else:
        parts = [deeper + _laid_out(each, deeper) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(parts) + f"\n{indent}{closing}"


def require_comparable(baseline: Baseline, suite: Suite, seeds_are_given: bool, path: Path) -> None:
    """Refuse a baseline of another revision, or of other cells or seeds than the suite has.

    Parameters
    ----------
    seeds_are_given
        Whether the suite's seeds are a choice of this command: then they may be others than the baseline's.

    Raises
    ------
    BaselineError
        One line that names the first thing that differs.
    """
    anew = f"make the baseline anew with: fedbench baseline {suite.name} --reason TEXT"
    if baseline.revision != ALGORITHM_REVISION:
        raise BaselineError(
            f"{path} is of the algorithm's revision {baseline.revision}, this is {ALGORITHM_REVISION}: {anew}"
        )
    records = {record.label: record for record in baseline.cells}
    if new := [cell.label for cell in suite.cells if cell.label not in records]:
        raise BaselineError(f"{path} has no cell {_and_more(new)}, which the suite has: {anew}")
    if gone := sorted(records.keys() - {cell.label for cell in suite.cells}):
        raise BaselineError(f"{path} has a cell {_and_more(gone)}, which the suite lacks: {anew}")
    for cell in suite.cells:
        record = records[cell.label]
        if differing := _first_difference(record.spec, cell.spec):
            raise BaselineError(f"{path} is of another spec: cell {cell.label} has {differing}: {anew}")
        if not seeds_are_given and (lacking := [seed for seed in cell.seeds if seed not in record.by_seed]):
            raise BaselineError(f"{path} lacks seed {_and_more(lacking)} of cell {cell.label}: {anew}")


def _first_difference(before: CellSpec, now: CellSpec) -> str | None:
    fields = (name for name in CellSpec.model_fields if getattr(before, name) != getattr(now, name))
    name = next(fields, None)
    return f"{name} {getattr(now, name)}, was {getattr(before, name)}" if name else None


def require_data(baseline: Baseline, cells: Iterable[CellRecord], path: Path) -> None:
    """Refuse a baseline of other data.

    Raises
    ------
    BaselineError
        One line that names the dataset.
    """
    before = {record.label: record.data for record in baseline.cells}
    for cell in cells:
        if before[cell.label] != cell.data:
            raise BaselineError(
                f"{path} is of other data of {cell.spec.dataset}: bring back the data (see: fedbench data verify), or "
                f"make the baseline anew with: fedbench baseline {baseline.suite} --reason TEXT"
            )


def _and_more(names: Sequence[object]) -> str:
    return f"{names[0]}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
