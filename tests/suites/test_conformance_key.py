"""The key `conformance` of a suite file: what it means, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedbench.suites.conformance import Measure, Reference
from fedbench.suites.files import list_suites
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import Suite
from fedbench.util.errors import SuiteError

SCENARIOS = [
    {"name": "one", "target_accuracy": 0.9},
    {"name": "two", "target_accuracy": 0.9},
    {"name": "grid", "target_accuracy": 0.9, "num_clients": [2, 3]},
    {"name": "without"},
]


def load(folder: Path, conformance: object, **options: object) -> Suite:
    path = folder / "suite.yaml"
    content = {"name": "s", "question": "q?", "seeds": [0], "scenarios": SCENARIOS, "conformance": conformance}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_suite(path, **options)  # type: ignore[arg-type]


def test_rows_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    given = {"two": {"paper": 20, "band": [10, None], "speedup_over": "one"}, "one": None}
    expected = (
        Reference(scenario="two", paper=20, band=(10, None), speedup_over="one"),
        Reference(scenario="one", measure=Measure.ROUNDS_TO_TARGET),
    )
    assert expected == load(tmp_path, given).conformance
    assert () == load(tmp_path, None).conformance


def test_it_is_about_the_file_and_not_about_what_the_command_line_changes(tmp_path: Path) -> None:
    given = {"one": {"paper": 20}}
    changed = load(tmp_path, given, only=["two"], overrides={"num_clients": [2, 3], "target_accuracy": None})
    assert ["one"] == [row.scenario for row in changed.conformance]


@pytest.mark.parametrize(
    ("conformance", "message"),
    [
        ([], "conformance is []; it must be a mapping of one, two, grid, without"),
        ({"on": {}}, "conformance: unknown key 'on'; did you mean one?"),
        ({"one": 3}, "conformance: one is 3; it must be a mapping of paper, band, measure, speedup_over"),
        ({"one": {"papers": 3}}, "conformance: one: unknown key 'papers'; did you mean paper?"),
        ({"one": {"paper": True}}, "conformance: one: paper is true; it must be a number, or text"),
        ({"one": {"paper": [3]}}, "conformance: one: paper is [3]; it must be a number, or text"),
        ({"one": {"band": 3}}, "conformance: one: band is 3; it must be [smallest, largest], null for no bound"),
        ({"one": {"band": [1]}}, "conformance: one: band is [1]; it must be [smallest, largest]"),
        ({"one": {"band": ["a", 2]}}, "conformance: one: band is ['a', 2]; it must be [smallest, largest]"),
        ({"one": {"band": [float("nan"), 30]}}, "band is [nan, 30]; it must be [smallest, largest]"),
        ({"one": {"paper": float("inf")}}, "conformance: one: paper is inf; it must be a number, or text"),
        ({"one": {"band": [2, 1]}}, "conformance: one: band is [2, 1]; it must leave something inside"),
        ({"one": {"band": [None, None]}}, "it must leave something inside and something outside"),
        (
            {"one": {"measure": "rounds"}},
            "conformance: one: measure: unknown measure 'rounds'; choose from",
        ),
        ({"one": {"measure": []}}, "conformance: one: measure: unknown measure []"),
        ({"one": {"measure": "interpolation_gain"}}, "conformance: one: the scenario interpolates nothing"),
        ({"one": {"speedup_over": "tow"}}, "conformance: one: speedup_over: unknown scenario 'tow'; did you mean two?"),
        ({"one": {"speedup_over": []}}, "conformance: one: speedup_over: unknown scenario []"),
        ({"grid": {}}, "conformance: grid: the scenario has 2 cells; give each a scenario of its own"),
        ({"without": {}}, "conformance: without: the scenario has no target; set target_accuracy"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path: Path, conformance: object, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, conformance)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["paper-table1", "paper-table1-fitted", "paper-table2", "paper-figure1"])
def test_the_papers_suites_have_a_row_for_each_scenario_and_the_papers_number_in_its_band(name: str) -> None:
    suite = load_suite(list_suites()[name])
    assert [scenario.name for scenario in suite.scenarios] == [row.scenario for row in suite.conformance]
    for row in suite.conformance:
        if isinstance(row.paper, int | float):
            assert row.band is not None
            low, high = row.band
            assert low is not None
            assert high is not None
            assert low < row.paper < high
            spec = next(each.cells[0].spec for each in suite.scenarios if each.name == row.scenario)
            assert spec.rounds > high  # so that more rounds than that can be told from not reached


def test_the_papers_tables_are_as_it_has_them() -> None:
    """Sums and counts of its numbers, added up apart from the files."""
    tables = [load_suite(list_suites()[name]) for name in ("paper-table1", "paper-table2")]
    numbers = [[row.paper for row in suite.conformance if isinstance(row.paper, int)] for suite in tables]
    assert [35, 18] == [len(each) for each in numbers]
    assert [25_834, 5_504] == [sum(each) for each in numbers]


def test_the_fitted_rows_of_table_1_differ_from_its_own_by_pixels_and_rate_alone() -> None:
    tables = [load_suite(list_suites()[name]) for name in ("paper-table1", "paper-table1-fitted")]
    own, fitted = (
        {row.scenario: row.model_copy(update={"speedup_over": None}) for row in suite.conformance} for suite in tables
    )
    assert fitted.items() <= own.items()
    specs, changed = ({each.name: each.cells[0].spec for each in suite.scenarios} for suite in tables)
    for name, spec in changed.items():
        assert spec == specs[name].replace({"pixels": "unit", "learning_rate": spec.learning_rate})
