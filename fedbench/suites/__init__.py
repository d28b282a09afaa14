"""Suites: their files are read and checked here, and their grids laid out. Imports neither torch nor mlflow."""

from fedbench.suites.files import find_suite, list_suites, shipped_suites
from fedbench.suites.listing import load_suites
from fedbench.suites.loading import load_suite, parse_overrides, parse_seeds
from fedbench.suites.schema import Cell, CellSpec, RunSpec, Scenario, Suite

__all__ = [
    "Cell",
    "CellSpec",
    "RunSpec",
    "Scenario",
    "Suite",
    "find_suite",
    "list_suites",
    "load_suite",
    "load_suites",
    "parse_overrides",
    "parse_seeds",
    "shipped_suites",
]
