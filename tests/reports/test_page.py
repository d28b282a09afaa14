"""The report: one page that needs no network, and its figures as files."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from made_suite import ONE_CELL, MadeSource, made_suite, metrics_of, stored_suite
from PIL import Image

from fedbench.measures import Verdict
from fedbench.partitions.table import PartitionTable
from fedbench.reports.class_figures import read_confusions, read_partitions
from fedbench.reports.figures import draw_figures
from fedbench.reports.page import make_report, render
from fedbench.reports.sentences import sentences
from fedbench.reports.style import NATS, PERCENT, same_scale
from fedbench.suites.schema import RunSpec
from fedbench.tracking.records import StoredSuite

FIGURES = {"grid", "curves", "loss", "interpolation", "recall", "confusion"}


@pytest.fixture(scope="module")
def report(stored: StoredSuite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_report(stored, tmp_path_factory.mktemp("report") / "new" / "folder")


def pictures(report: Path) -> dict[str, Path]:
    return {path.stem: path for path in (report.parent / "figures").iterdir()}


def test_the_page_refers_to_nothing_outside_itself(report: Path) -> None:
    text = report.read_text()
    assert [] == re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert "<script" not in text
    assert len(FIGURES) == text.count("data:image/png;base64,")


def test_the_page_has_the_question_and_every_cell_with_its_numbers(report: Path, stored: StoredSuite) -> None:
    text = report.read_text()
    assert "What is shown?" in text
    for cell in stored.cells:
        assert f">{cell.label}<" in text
    assert ">71.0 ± 1.0<" in text  # 2 clients: 70, 71 and 72 %
    assert ">68.5 to 73.5<" in text  # 71 ± 4.303 · 1 / √3
    assert ">+2.1 ± 0.1<" in text  # the gains 0.020, 0.021 and 0.022


def test_the_figures_are_pictures_with_something_in_them(report: Path) -> None:
    assert FIGURES == set(pictures(report))
    for path in pictures(report).values():
        pixels = np.asarray(Image.open(BytesIO(path.read_bytes())).convert("RGB"))
        assert min(pixels.shape[:2]) > 150, path
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50, path


def test_the_summary_names_the_best_cell_and_what_averaging_gained(stored: StoredSuite) -> None:
    words = list(sentences(stored.cells))
    best = "grid num_clients=3 examples_per_client=20 has the highest accuracy, 81.0 ± 1.0 % (3 seeds); "
    lowest = "grid num_clients=2 examples_per_client=50 has the lowest, 71.0 ± 1.0 % (3 seeds). "
    apart = "The difference is 10.0 points (95 % interval 10.0 to 10.0); "  # 10 points in each seed
    assert words[0] == f"{best}{lowest}{apart}by chance the extremes of 4 cells lie further apart than two do."
    assert "better than the clients' own models in 4 of 4 cells, worse in 0, inconclusive in 0" in words[1]
    better = "the average is worse than both models in 0 of 3 seeds, between them in 0, better than both in 3."
    assert f"pair init=independent: {better}" in words
    assert words[-1].startswith("Every run is ok")


def test_one_seed_shows_no_difference(stored: StoredSuite) -> None:
    shown = [replace(cell, runs={0: cell.runs[0]}) for cell in stored.cells[0:3:2]]
    words = next(iter(sentences(shown)))
    assert "71.0 ± " not in words
    assert "(one seed)" in words
    assert words.endswith("one seed does not show that it is not chance.")


def test_captions_say_over_how_many_seeds(stored: StoredSuite) -> None:
    fewer = replace(stored.cells[0], runs={0: stored.cells[0].runs[0], 1: stored.cells[0].runs[1]})
    cells = (fewer, *stored.cells[1:])
    captions = {figure.name: figure.caption for figure in draw_figures(replace(stored, cells=cells), {}, {})}
    assert "mean ± standard deviation over 2 to 3 seeds." in captions["grid"]
    assert "Mean over 2 to 3 seeds; band: 95 % interval of the mean." in captions["curves"]
    alone = tuple(replace(cell, runs={0: cell.runs[0]}) for cell in stored.cells)
    captions = {figure.name: figure.caption for figure in draw_figures(replace(stored, cells=alone), {}, {})}
    assert "one seed, so no spread" in captions["grid"]
    assert "Bars" not in captions["grid"]
    assert "One seed, so no band." in captions["curves"]


def test_cells_of_one_accuracy_have_no_best_among_them(tmp_path: Path) -> None:
    text = ONE_CELL.replace("rounds: 2", "rounds: 1, learning_rate: [0.1, 0.2]").replace("[0, 1]", "[0]")
    words = list(sentences(stored_suite(made_suite(tmp_path, text)).cells))
    assert words[0] == "a: all 2 cells have the same accuracy, 60.0 %."


def test_a_cell_below_the_majority_is_coloured_and_explained(tmp_path: Path) -> None:
    below = (Verdict.BELOW_MAJORITY, "too few")
    stored = stored_suite(made_suite(tmp_path, ONE_CELL), verdict=lambda _: below)
    page = make_report(stored, tmp_path / "out").read_text()
    assert 'class="text below majority">below majority 2/2<' in page
    assert ".below, .collapsed {" in page
    assert '<b class="below majority">below majority</b>: the model tells classes apart' in page


def test_a_collapsed_cell_is_named_in_the_summary_and_in_the_table(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, ONE_CELL.replace("Why?", "Why <b>?"))
    collapsed = (Verdict.COLLAPSED, "predicts class 0 for every image")
    page = make_report(stored_suite(suite, verdict=lambda _: collapsed), tmp_path / "out").read_text()
    assert "a: collapsed, 2 of 2 seeds: predicts class 0 for every image." in page
    assert 'class="text collapsed">collapsed 2/2<' in page
    assert "Why &lt;b&gt;?" in page  # what a suite's author writes is text, not markup
    assert "not skill" in page


def test_a_diverged_cell_has_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, ONE_CELL.replace("rounds: 2", "rounds: 2, interpolation: true"))

    def infinite(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"loss": float("inf"), "client_drift": float("nan")}

    stored = stored_suite(suite, infinite, lambda _: (Verdict.DIVERGED, "loss not finite"))
    page = make_report(stored, tmp_path / "out").read_text()
    assert "a: diverged, 2 of 2 seeds: loss not finite." in page
    assert 2 == page.count(">not finite<")
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))


def test_confusion_matrices_are_summed_over_the_seeds(stored: StoredSuite) -> None:
    found, gone = read_confusions(stored)
    names, confusion = found["pair init=shared"]
    assert (["cat", "dog"], [[9, 3], [0, 12]], []) == (names, confusion.tolist(), gone)


def test_each_partition_is_drawn_once(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios:\n"
    text += "  - {name: a, rounds: 1, partition: dirichlet, partition_alpha: [0.1, 1], learning_rate: [0.1, 0.2]}\n"
    text += "  - {name: b, rounds: 1, partition: iid}\n"
    stored = stored_suite(made_suite(tmp_path, text))
    assert 3 == len(read_partitions(stored)[1])
    assert isinstance(stored.source, MadeSource)
    for cell in stored.cells[:4]:
        for seed, run in cell.runs.items():
            table = PartitionTable(["left", "right"], ["cat", r"$\frac{$"], np.array([[4, seed], [0, 4]]))
            stored.source.texts[run.run_id, "partition.csv"] = table.csv()
    found, _ = read_partitions(stored)
    assert [f"a partition_alpha={alpha} learning_rate=0.1" for alpha in (0.1, 1.0)] == list(found)
    assert [[[4, 0], [0, 4]]] * 2 == [table.counts.tolist() for table in found.values()]
    page = make_report(stored, tmp_path / "out")
    assert "The first 2 of 3 partitions are shown." in page.read_text()
    assert "partition" in pictures(page)


def test_a_missing_artifact_and_an_old_figure_do_not_stop_a_report(stored: StoredSuite, tmp_path: Path) -> None:
    make_report(stored, tmp_path / "out")
    own = tmp_path / "out" / "figures" / "own.png"
    own.write_bytes(b"somebody else's")
    other = stored_suite(made_suite(tmp_path, ONE_CELL.replace("rounds: 2}", "rounds: 1}, {name: b, rounds: 1}")))
    assert isinstance(other.source, MadeSource)
    del other.source.texts[other.cells[0].runs[0].run_id, "confusion.csv"]
    page = make_report(other, tmp_path / "out")
    assert "The confusion matrices of 1 cells are gone from the store: a." in page.read_text()
    assert "The partitions of 1 cells are gone from the store: a." in page.read_text()
    assert {"grid", "recall", "confusion", "own"} == set(pictures(page))  # curves need two rounds


def test_an_interval_stays_within_what_is_possible(tmp_path: Path) -> None:
    def apart(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"accuracy": 0.999 if run.seed else 0.9}

    stored = stored_suite(made_suite(tmp_path, ONE_CELL), apart)
    spread = stored.cells[0].final("accuracy")
    assert spread is not None
    assert spread.interval is not None
    assert spread.interval[1] > 1
    assert " to 100.0<" in render(stored, [])


def test_compared_panels_have_one_scale_within_what_is_possible() -> None:
    from matplotlib.figure import Figure as Drawing

    first, second = Drawing().subplots(2)
    first.set_ylim(20, 150)
    second.set_ylim(-70, 90)
    same_scale([first, second], PERCENT)
    assert [PERCENT, PERCENT] == [first.get_ylim(), second.get_ylim()]
    second.set_ylim(-2, 200)
    same_scale([first, second], NATS)
    assert [(0, 200), (0, 200)] == [first.get_ylim(), second.get_ylim()]
