"""The report: one page that needs no network, figures beside it, and both kept in the store."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from made_store import address, made_suite, metrics_of, record
from PIL import Image

from fedbench.measures import Verdict
from fedbench.partitions.table import PartitionTable
from fedbench.reports.page import log_report, make_report, read_confusions, read_partitions, render, sentences
from fedbench.reports.reading import StoredSuite, read_suite
from fedbench.reports.style import NATS, PERCENT, same_scale
from fedbench.suites.schema import RunSpec

FIGURES = {"grid", "curves", "loss", "interpolation", "recall", "confusion"}


@pytest.fixture(scope="module")
def stored(made: str) -> StoredSuite:
    return read_suite("made", made)


@pytest.fixture(scope="module")
def report(stored: StoredSuite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_report(stored, tmp_path_factory.mktemp("report") / "new" / "folder")


def test_the_page_refers_to_nothing_outside_itself(report: Path) -> None:
    text = report.read_text()
    assert [] == re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert "<script" not in text
    assert len(FIGURES) == text.count("data:image/png;base64,")


def test_the_page_has_every_cell_with_its_numbers_and_the_question(report: Path, stored: StoredSuite) -> None:
    text = report.read_text()
    assert "What is shown?" in text
    for cell in stored.cells:
        assert f">{cell.cell.label}<" in text
    assert ">71.0 ± 1.0<" in text  # 2 clients: 70, 71 and 72 %
    assert ">68.5 to 73.5<" in text  # 71 ± 4.303 · 1 / √3
    assert ">+2.1 ± 0.1<" in text  # the gains 0.020, 0.021 and 0.022


def test_the_figures_are_pictures_with_something_in_them(report: Path) -> None:
    files = {path.stem: path for path in (report.parent / "figures").iterdir()}
    assert set(files) == FIGURES
    for path in files.values():
        pixels = np.asarray(Image.open(BytesIO(path.read_bytes())).convert("RGB"))
        assert min(pixels.shape[:2]) > 150, path
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50, path


def test_the_words_say_which_cell_is_best_and_what_averaging_gained(stored: StoredSuite) -> None:
    words = list(sentences(stored.cells))
    best = "grid num_clients=3 examples_per_client=20 has the best accuracy, 81.0 ± 1.0 %; "
    assert words[0] == best + "grid num_clients=2 examples_per_client=50 has the lowest, 71.0 ± 1.0 %."
    assert "better than the clients' own models in 4 of 4 cells, worse in 0, and 0 cannot be told" in words[1]
    better = "the average is worse than both models in 0 of 3 seeds, between them in 0, better in 3."
    assert f"pair init=independent: {better}" in words
    assert words[-1].startswith("Every run has the verdict ok")


def test_cells_of_one_accuracy_have_no_best_among_them(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, rounds: 1, learning_rate: [0.1, 0.2]}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    words = list(sentences(read_suite("made", address(tmp_path)).cells))
    assert words[0] == "a: all 2 cells have the same accuracy, 60.0 %."


def test_a_collapsed_cell_is_called_so_in_words_and_in_the_table(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why <b>?\nseeds: [0]\nscenarios: [{name: a, rounds: 1}]\n"

    def verdict(_: RunSpec) -> tuple[Verdict, str]:
        return Verdict.COLLAPSED, "predicts class 0 for every image"

    record(made_suite(tmp_path, text), address(tmp_path), verdict=verdict)
    page = make_report(read_suite("made", address(tmp_path)), tmp_path / "out").read_text()
    assert "a: collapsed, 1 of 1 seeds: predicts class 0 for every image." in page
    assert 'class="text collapsed">collapsed 1/1<' in page
    assert "Why &lt;b&gt;?" in page  # what a suite's author writes is text, not markup
    assert "not skill" in page


def test_what_diverged_is_called_so_and_its_loss_is_not_finite(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 2, interpolation: true}]\n"

    def infinite(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"loss": float("inf"), "client_drift": float("nan")}

    record(made_suite(tmp_path, text), address(tmp_path), infinite, lambda _: (Verdict.DIVERGED, "loss not finite"))
    page = make_report(read_suite("made", address(tmp_path)), tmp_path / "out").read_text()
    assert "a: diverged, 2 of 2 seeds: loss not finite." in page
    assert 2 == page.count(">not finite<")
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_report_is_kept_in_one_run_of_the_experiment(stored: StoredSuite, report: Path) -> None:
    for _ in range(2):
        log_report(stored, report.parent)
    found = stored.client.search_runs([stored.experiment.experiment_id], "tags.`fedbench.kind` = 'report'")
    (run,) = found
    assert "FINISHED" == run.info.status
    artifacts = {each.path for each in stored.client.list_artifacts(run.info.run_id)}
    assert artifacts == {"report.html", "figures"}
    figures = {each.path for each in stored.client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {f"figures/{name}.png" for name in FIGURES}
    again = read_suite("made", stored.uri)  # it is no run of a cell
    assert [cell.result for cell in again.cells] == [cell.result for cell in stored.cells]


def test_confusion_matrices_are_summed_over_the_seeds(stored: StoredSuite) -> None:
    found, gone = read_confusions(stored)
    names, confusion = found["pair init=shared"]
    assert (["cat", "dog"], [[9, 3], [0, 12]], []) == (names, confusion.tolist(), gone)


def test_who_has_what_is_drawn_once_for_each_way_in_which_examples_are_dealt(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios:\n"
    text += "  - {name: a, rounds: 1, partition: dirichlet, partition_alpha: [0.1, 1], learning_rate: [0.1, 0.2]}\n"
    text += "  - {name: b, rounds: 1, partition: iid}\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    stored = read_suite("made", address(tmp_path))
    assert {} == read_partitions(stored)  # as of runs that an older fedbench recorded
    for cell in stored.cells[:4]:
        for seed, run in cell.runs.items():
            table = PartitionTable(["left", "right"], ["cat", "dog"], np.array([[4, seed], [0, 4]]))
            stored.client.log_text(run.info.run_id, table.csv(), "partition.csv")
    found = read_partitions(stored)
    labels = [f"a partition_alpha={alpha} learning_rate=0.1" for alpha in (0.1, 1.0)]
    assert labels == list(found)
    assert [[[4, 0], [0, 4]]] * 2 == [table.counts.tolist() for table in found.values()]
    page = make_report(stored, tmp_path / "out").read_text()
    assert "The first 2 of 3 partitions are shown." in page
    pixels = np.asarray(Image.open(tmp_path / "out" / "figures" / "partition.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_artifacts_that_are_gone_are_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 1}, {name: b, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    stored = read_suite("made", address(tmp_path))
    first = stored.summary(stored.cells[0])
    assert first is not None
    (tmp_path / "mlruns" / "artifacts" / "made" / first.info.run_id / "artifacts" / "confusion.csv").unlink()
    page = make_report(stored, tmp_path / "out").read_text()
    assert "The confusion matrices of 1 cells are gone from the store: a." in page


def test_a_figure_that_is_no_longer_drawn_is_removed(stored: StoredSuite, tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    make_report(stored, tmp_path / "out")
    make_report(read_suite("made", address(tmp_path)), tmp_path / "out")
    assert {"grid", "recall", "confusion"} == {path.stem for path in (tmp_path / "out" / "figures").iterdir()}


def test_a_store_without_summaries_of_cells_is_reported_all_the_same(tmp_path: Path) -> None:
    """As one whose suite was interrupted before any cell was complete."""
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 2}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    stored = read_suite("made", address(tmp_path))
    summary = stored.summary(stored.cells[0])
    assert summary is not None
    stored.client.delete_run(summary.info.run_id)
    again = read_suite("made", address(tmp_path))
    assert again.summary(again.cells[0]) is None
    make_report(again, tmp_path / "out")
    assert {"grid", "curves", "loss", "recall"} == {path.stem for path in (tmp_path / "out" / "figures").iterdir()}


def test_an_interval_does_not_go_beyond_what_is_possible(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 2}]\n"

    def apart(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"accuracy": 0.999 if run.seed else 0.9}

    record(made_suite(tmp_path, text), address(tmp_path), apart)
    stored = read_suite("made", address(tmp_path))
    spread = stored.cells[0].final("accuracy")
    assert spread is not None
    assert spread.interval is not None
    assert spread.interval[1] > 1
    assert " to 100.0<" in render(stored, [])


def test_panels_that_are_compared_have_one_scale_within_what_is_possible() -> None:
    from matplotlib.figure import Figure as Drawing

    first, second = Drawing().subplots(2)
    first.set_ylim(20, 150)
    second.set_ylim(-70, 90)
    same_scale([first, second], PERCENT)
    assert [PERCENT, PERCENT] == [first.get_ylim(), second.get_ylim()]
    second.set_ylim(-2, 200)
    same_scale([first, second], NATS)
    assert [(0, 200), (0, 200)] == [first.get_ylim(), second.get_ylim()]
