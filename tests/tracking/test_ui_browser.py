"""What somebody sees who runs a suite, `bench` or `check`, and opens the addresses that `fedbench ui` prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pytest
from browser import TABLE, close_assistant, fresh_page, open_view, read_rows, show, ui
from browser import why_no_browser as why_not
from command import fedbench_here
from made_gate import PASSED
from made_timings import STEP, made_measurement

from fedbench.bench.recording import open_speed, record_speed
from fedbench.gate.recording import open_regression, record_gate
from fedbench.tracking.mlflow.store import open_store
from fedbench.util.commits import Commit

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or "there is a browser"),
]

SUITE = """
name: tiny
question: Does it show?
seeds: [0, 1]
defaults: {examples_per_client: 20, local_epochs: 1, learning_rate: 0.1}
scenarios:
  - {name: pair, init: [shared, independent], rounds: 2}
  - {name: trio, num_clients: 3, rounds: 2}
  - {name: hopeless, rounds: 1, require_accuracy: 1.0}
"""
CELLS = ["pair init=independent", "pair init=shared", "trio"]  # as MLflow sorts them; hopeless has no finished run
NAME = "attributes.`Run Name`"
COMMITS = [Commit(f"{count:040x}", count) for count in (40, 43, 44)]


@dataclass(frozen=True)
class Shown:
    """A page of a browser on the suite's UI, and what the store holds."""

    page: Page
    folder: Path
    seeds_address: str
    cells_address: str
    runs: list[Any]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlruns/mlflow.db"

    @property
    def server(self) -> str:
        return self.seeds_address.partition("/#/")[0]

    def addresses(self, name: str) -> list[str]:
        """What `fedbench ui NAME` prints of this server."""
        done = fedbench_here("ui", name, "--tracking-uri", self.server, folder=self.folder)
        assert (0, "") == (done.code, done.err)
        return re.findall(r"http://\S+", done.out)

    def of_kind(self, kind: str) -> list[Any]:
        return [run for run in self.runs if run.data.tags["fedbench.kind"] == kind]

    def seeds(self, cell: str) -> list[Any]:
        runs = [run for run in self.of_kind("run") if run.data.tags["fedbench.cell"] == cell]
        return [run for run in runs if run.info.status == "FINISHED"]

    def mean(self, cell: str, metric: str) -> float:
        return fmean(run.data.metrics[metric] for run in self.seeds(cell))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shown")
    (folder / "tiny.yaml").write_text(SUITE)
    done = fedbench_here("run", "tiny.yaml", "--workers", "1", folder=folder)
    assert 1 == done.code, done.err  # the hopeless runs failed
    client = open_store(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    with ui("tiny", folder=folder) as addresses, fresh_page(2400, 1400) as page:
        seeds_address, cells_address = addresses
        page.goto(seeds_address)
        close_assistant(page)
        yield Shown(page, folder, seeds_address, cells_address, runs)


def number(text: str) -> float:
    """The number that a cell of the table begins with: ``0.7088 (average)``."""
    found = re.match(r"-?\d[\d.e+-]*", text)
    assert found, text
    return float(found[0])


def test_the_printed_address_opens_charts_of_each_cell(shown: Shown) -> None:
    open_view(shown.page, shown.seeds_address, rows=6)
    cards = shown.page.get_by_test_id("experiment-view-compare-runs-card")
    for number, title in enumerate(["accuracy", "accuracy", "averaging_gain", "loss", "balanced_accuracy"]):
        card = cards.nth(number)
        card.get_by_role("heading", name=title, exact=True).wait_for()
        for cell in CELLS:
            card.get_by_text(re.compile(rf"^{re.escape(cell)}( \({title}\))?$")).wait_for(state="attached")
    assert 5 == cards.count()  # the other metrics' charts are there, folded


def test_the_bars_are_as_long_as_the_mean_over_the_seeds(shown: Shown) -> None:
    open_view(shown.page, shown.seeds_address, rows=6)
    bars = shown.page.get_by_test_id("experiment-view-compare-runs-card").first.locator(".bartext")
    bars.nth(len(CELLS) - 1).wait_for()
    assert [f"{shown.mean(cell, 'accuracy'):.2f}" for cell in reversed(CELLS)] == bars.all_text_contents()


def test_the_seeds_are_grouped_by_cell_with_their_mean(shown: Shown) -> None:
    open_view(shown.page, shown.seeds_address, rows=6)
    show(shown.page, TABLE)
    rows = read_rows(shown.page, rows=9)
    groups = [row for row in rows if row[NAME].startswith("Group:")]
    assert [f"Group: {cell} 2" for cell in CELLS] == [row[NAME] for row in groups]
    for cell, row in zip(CELLS, groups, strict=True):
        for metric in ("accuracy", "balanced_accuracy", "loss", "averaging_gain"):
            assert shown.mean(cell, metric) == pytest.approx(number(row[f"metrics.`{metric}`"]))


def test_neither_the_cells_own_runs_nor_failed_runs_are_among_the_grouped_ones(shown: Shown) -> None:
    open_view(shown.page, shown.seeds_address, rows=6)
    show(shown.page, TABLE)
    names = [row[NAME] for row in read_rows(shown.page, rows=9)]
    members = [name for name in names if not name.startswith("Group:")]
    assert [f"{cell} seed={seed}" for cell in CELLS for seed in (0, 1)] == members


def test_the_view_of_the_cells_shows_their_mean_and_spread(shown: Shown) -> None:
    cells = {run.info.run_name: run for run in shown.of_kind("cell") if run.data.tags["fedbench.cell"] in CELLS}
    assert sorted(CELLS) == sorted(cells)
    open_view(shown.page, shown.cells_address, rows=len(shown.of_kind("cell")))
    rows = {row[NAME]: row for row in read_rows(shown.page, rows=len(shown.of_kind("cell")))}
    for name, run in cells.items():
        row = rows[name]
        for part in ("mean", "std", "ci95_low", "ci95_high"):
            assert run.data.metrics[f"accuracy/{part}"] == pytest.approx(number(row[f"metrics.`accuracy/{part}`"]))
        assert shown.mean(name, "accuracy") == pytest.approx(number(row["metrics.`accuracy/mean`"]))
        assert run.data.tags["fedbench.verdict"] == row["tags.`fedbench.verdict`"]


# Over the commits


def count_lines(card: Locator, lines: int) -> None:
    """So many lines, each with the two edges of its band, and each of those with a point a commit."""
    points, expected = card.locator(".scatterlayer .point"), 3 * len(COMMITS) * lines
    points.nth(expected - 1).wait_for(state="attached")
    assert expected == points.count()


def test_there_is_a_line_for_each_benchmark(shown: Shown) -> None:
    client = open_speed(shown.uri)
    for commit in COMMITS:
        other = replace(STEP, name="evaluate", group="evaluation", rates={"yardstick_multiple": commit.count / 10})
        record_speed(client, made_measurement(STEP, other), commit)
    overall, _, of_training = shown.addresses("speed")  # the second is the group of the other benchmark
    for address, names in ((overall, ("step", "evaluate")), (of_training, ("step",))):
        open_view(shown.page, address, rows=len(COMMITS) * len(names))
        cards = shown.page.get_by_test_id("experiment-view-compare-runs-card")
        for number, metric in enumerate(("yardstick_multiple", "median_seconds")):
            card = cards.nth(number)
            card.get_by_role("heading", name=metric, exact=True).wait_for()
            for name in names:
                card.get_by_text(f"{name} ({metric})", exact=True).wait_for(state="attached")
            count_lines(card, len(names))


def test_there_is_a_line_for_each_suite_that_is_checked_and_a_page_of_its_cells(shown: Shown) -> None:
    client = open_regression(shown.uri)
    for commit in COMMITS:
        record_gate(client, PASSED, commit)
    overall, made, speed = shown.addresses("regression")
    for address, metrics, group in (
        (overall, ["failures"], "made"),
        (made, ["accuracy/pair init:shared", "accuracy/pair init:independent"], "made"),
        (speed, ["ratio/step:cnn-10", "ratio/average"], "check"),
    ):
        open_view(shown.page, address, rows=len(COMMITS))
        card = shown.page.get_by_test_id("experiment-view-compare-runs-card").first
        for metric in metrics:
            card.get_by_text(f"{group} ({metric})", exact=True).wait_for(state="attached")
        count_lines(card, len(metrics))
