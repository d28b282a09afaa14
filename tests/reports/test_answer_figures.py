"""The differences behind the answers, on the report's page."""

from __future__ import annotations

from pathlib import Path

from made_suite import made_suite, metrics_of, stored_suite

from fedbench.reports.answer_figures import answer_figures
from fedbench.reports.answers import answer_all
from fedbench.reports.page import make_report
from fedbench.suites.schema import RunSpec
from fedbench.tracking.records import StoredSuite

TEXT = """
name: made
question: Which <b>?
seeds: [0, 1, 2]
scenarios:
  - {name: grid, num_clients: [2, 3], learning_rate: [0.1, 0.2], rounds: 1}
  - {name: pair, init: [shared, independent], rounds: 1}
"""


def wobbly(run: RunSpec, step: int) -> dict[str, float]:
    """Each client adds 10 points, and 1, 2 or 3 by the seed."""
    more = 0.01 * (run.seed + 1) * (run.spec.num_clients - 2)
    return metrics_of(run, step) | {"accuracy": metrics_of(run, step)["accuracy"] + more}


def made(folder: Path) -> StoredSuite:
    return stored_suite(made_suite(folder, TEXT), wobbly)


def test_a_pair_has_its_difference_and_interval_in_the_unit_that_people_read(tmp_path: Path) -> None:
    figures = list(answer_figures(answer_all([cell.result for cell in made(tmp_path).cells])))
    titles = [each.title for each in figures]
    assert ["Differences in accuracy", "Differences in accuracy, setting by setting"] == titles
    averaged = {str(row["panel"]): row for row in figures[0].rows}
    row = averaged["grid: num_clients, averaged over 2 settings"]
    assert ("3 − 2", 12.0, 3) == (row["pair"], row["difference (points)"], row["seeds"])  # 11, 12 and 13 points
    assert isinstance(row["low"], float)
    assert row["low"] < 12 < row["high"]  # type: ignore[operator]
    assert {"grid: num_clients, learning_rate=0.1", "grid: learning_rate, num_clients=3"} <= {
        row["panel"] for row in figures[1].rows
    }
    assert {0} == {value for _, value, _ in figures[0].levels}


def test_the_page_begins_with_the_answers(tmp_path: Path) -> None:
    stored = made(tmp_path)
    page = make_report(stored, tmp_path / "out").read_text()
    first, *_ = answer_all([cell.result for cell in stored.cells])
    assert page.index("Summary</h2>") < page.index(first.sentence[:40]) < page.index("Results by cell</h2>")
    assert "Which &lt;b&gt;?" in page
    assert 'id="differences-in-accuracy"' in page
