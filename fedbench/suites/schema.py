"""What a suite is made of: cells, runs, scenarios. All are frozen and hashable; no torch or mlflow is imported."""

from __future__ import annotations

from pathlib import Path

from fedbench.suites.cell import CellSpec
from fedbench.suites.conformance import Reference
from fedbench.suites.contrast import ContrastSpec
from fedbench.suites.tune import TuneSpec
from fedbench.util.frozen import Frozen
from fedbench.util.text import show

LONG = 8  # characters of a number

__all__ = ["Cell", "CellSpec", "RunSpec", "Scenario", "Suite"]


class RunSpec(Frozen):
    """A cell with one seed: the smallest thing that is executed."""

    suite: str
    scenario: str
    cell: str  # the cell's label
    spec: CellSpec
    seed: int


class Cell(Frozen):
    """One point of a scenario's grid, to be run once a seed."""

    suite: str
    scenario: str
    spec: CellSpec
    axes: tuple[str, ...]  # the fields that the scenario gives a list for, in the order of `CellSpec`
    seeds: tuple[int, ...]

    @property
    def label(self) -> str:
        """Short text that all runs of this cell share, such as ``grid num_clients=5 init=shared``."""
        own = [axis for axis in self.axes if self.spec.has(axis)]  # not the options of another cell's part
        return " ".join([self.scenario, *(f"{axis}={value_text(self.spec.get(axis))}" for axis in own)])

    def runs(self) -> tuple[RunSpec, ...]:
        """One run for each seed."""
        return tuple(
            RunSpec(suite=self.suite, scenario=self.scenario, cell=self.label, spec=self.spec, seed=seed)
            for seed in self.seeds
        )


class Scenario(Frozen):
    """A named configuration and the cells of its grid; the last axis varies fastest."""

    name: str
    cells: tuple[Cell, ...]


class Suite(Frozen):
    """The contents of one suite file: scenarios that are run together."""

    name: str
    question: str
    seeds: tuple[int, ...]
    scenarios: tuple[Scenario, ...]
    path: Path
    tune: TuneSpec = TuneSpec()  # what `fedbench tune` searches; `fedbench run` does not use it
    contrast: ContrastSpec = ContrastSpec()  # which cells `fedbench answer` compares
    conformance: tuple[Reference, ...] = ()  # published results, for `fedbench conformance`

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of all scenarios, in the order of the file."""
        return tuple(cell for scenario in self.scenarios for cell in scenario.cells)

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """The runs of all cells, cell by cell."""
        return tuple(run for cell in self.cells for run in cell.runs())


def value_text(value: object) -> str:
    """Write a value for a label: text as it is, four digits of a number that nobody wrote by hand."""
    text = value if isinstance(value, str) else show(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > LONG else text
