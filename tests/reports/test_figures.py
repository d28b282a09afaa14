"""The figures of a report, as data: records in, tables out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_suite import ONE_CELL, MadeSource, made_suite, metrics_of, stored_suite

from fedbench.partitions.table import PartitionTable
from fedbench.reports.figure import Figure, Kind, figure_json
from fedbench.reports.figures import suite_figures
from fedbench.reports.panels import axis_words
from fedbench.suites.schema import RunSpec
from fedbench.tracking.records import StoredSuite

PARTITIONS = """
name: made
question: Why?
seeds: [0, 1]
scenarios:
  - {name: a, rounds: 1, partition: dirichlet, partition_alpha: [0.1, 1], learning_rate: [0.1, 0.2]}
  - {name: b, rounds: 1, partition: iid}
"""


def figures_of(stored: StoredSuite) -> dict[str, Figure]:
    return {figure.name: figure for figure in suite_figures(stored)}


@pytest.fixture(scope="module")
def figures(stored: StoredSuite) -> dict[str, Figure]:
    return figures_of(stored)


def column(figure: Figure, name: str) -> list[object]:
    return [row[name] for row in figure.rows]


def test_there_is_a_figure_for_each_thing_that_was_measured(figures: dict[str, Figure]) -> None:
    assert [
        "accuracy-by-num-clients-and-examples-per-client",
        "accuracy-by-init",
        "averaging-gain-by-num-clients-and-examples-per-client",
        "averaging-gain-by-init",
        "client-drift-by-num-clients-and-examples-per-client",
        "client-drift-by-init",
        "accuracy-by-round",
        "loss-by-round",
        "client-drift-by-round",
        "loss-between-two-models",
        "accuracy-between-two-models",
        "accuracy-of-each-client",
        "examples-by-client-and-class",
        "recall-by-class",
        "confusion-matrices",
    ] == list(figures)


def test_a_heat_map_has_a_field_for_each_cell_with_its_mean_and_spread(figures: dict[str, Figure]) -> None:
    figure = figures["accuracy-by-num-clients-and-examples-per-client"]
    assert (Kind.MATRIX, "num clients", "examples per client") == (figure.kind, figure.y, figure.x)
    assert [("2", "20"), ("2", "50"), ("3", "20"), ("3", "50")] == [
        (row["num clients"], row["examples per client"]) for row in figure.rows
    ]
    first = figure.rows[0]  # 70, 71 and 72 %: 71 ± 4.303 · 1 / √3
    assert (71, 68.5159, 73.4841, 3, [70, 71, 72]) == (
        first["accuracy (%)"],
        first["low"],
        first["high"],
        first["seeds"],
        first["values"],
    )
    assert "71.0\n± 1.0" == first["shown"]


def test_axes_are_sorted_by_number_and_all_is_last(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios:\n  - {name: a, rounds: 1, learning_rate: "
    text += "[0.05, 0.02, 0.1, 1.0e-3], batch_size: [null, 10]}\n"
    figure = figures_of(stored_suite(made_suite(tmp_path, text)))["accuracy-by-batch-size-and-learning-rate"]
    assert ["10"] * 4 + ["all"] * 4 == column(figure, "batch size")
    assert ["0.001", "0.02", "0.05", "0.1"] * 2 == column(figure, "learning rate")


def test_a_curve_has_the_mean_and_interval_of_each_round(figures: dict[str, Figure]) -> None:
    figure = figures["accuracy-by-round"]
    assert ["grid: num clients 2", "grid: num clients 3"] == list(dict.fromkeys(column(figure, "panel")))
    lines = [(row["round"], row["accuracy (%)"]) for row in figure.rows if row["panel"] == "grid: num clients 2"]
    assert [(1, 61), (2, 71)] * 2 == lines  # of two amounts of data
    assert {("grid: num clients 2", 10.0, "always the largest class")} <= set(figure.levels)


def test_each_client_is_compared_with_the_server(figures: dict[str, Figure]) -> None:
    figure = figures["accuracy-of-each-client"]
    rows = [row for row in figure.rows if row["panel"] == "pair"][:3]
    assert [("a client's own", 0, 60), ("a client's own", 1, 58), ("the server's", None, 61)] == [
        (row["model"], row["client"], row["accuracy (%)"]) for row in rows
    ]


def test_the_line_between_two_models_is_in_theta(figures: dict[str, Figure]) -> None:
    figure = figures["loss-between-two-models"]
    assert [-0.2, 0.5, 1.2] * 2 == column(figure, "θ")
    assert [2, 1.1, 3] * 2 == column(figure, "loss (nats)")


def test_a_figure_whose_rows_lack_what_is_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="its rows lack columns of x, y"):
        Figure("", "T", "", Kind.LINES, [{"p": "", "x": 1, "y": 2}, {"x": 1, "y": 2}], "x", "y")
    with pytest.raises(ValueError, match="its rows lack"):
        Figure("", "T", "", Kind.LINES, [{"p": "", "x": 1, "y": 2}], "x", "y", series="z")


def test_captions_say_over_how_many_seeds(stored: StoredSuite) -> None:
    fewer = replace(stored.cells[0], runs={0: stored.cells[0].runs[0], 1: stored.cells[0].runs[1]})
    captions = {
        name: each.caption for name, each in figures_of(replace(stored, cells=(fewer, *stored.cells[1:]))).items()
    }
    grid = "accuracy-by-num-clients-and-examples-per-client"
    assert "mean ± standard deviation over 2 to 3 seeds." in captions[grid]
    assert "Mean over 2 to 3 seeds; band: 95 % interval of the mean." in captions["accuracy-by-round"]
    alone = tuple(replace(cell, runs={0: cell.runs[0]}) for cell in stored.cells)
    captions = {name: each.caption for name, each in figures_of(replace(stored, cells=alone)).items()}
    assert "one seed, so no spread" in captions[grid]
    assert "Bars" not in captions["accuracy-by-init"]
    assert "One seed, so no band." in captions["accuracy-by-round"]


def test_what_is_not_finite_is_not_drawn_and_never_leaves_json(tmp_path: Path) -> None:
    def infinite(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"loss": float("inf"), "client_drift": float("nan")}

    figures = figures_of(stored_suite(made_suite(tmp_path, ONE_CELL), infinite))
    assert "client-drift-by-scenario" not in figures
    assert {None} == set(column(figures["loss-by-round"], "loss (nats)"))
    for figure in figures.values():
        json.dumps(figure_json(figure), allow_nan=False)


def test_more_cells_than_colours_are_in_several_panels(tmp_path: Path) -> None:
    text = ONE_CELL.replace("rounds: 2", f"rounds: 2, learning_rate: {[number / 100 for number in range(1, 20)]}")
    figure = figures_of(stored_suite(made_suite(tmp_path, text.replace("[0, 1]", "[0]"))))["loss-by-round"]
    cells = {title: {row["cell"] for row in figure.rows if row["panel"] == title} for title in column(figure, "panel")}
    assert {"a (1 of 3)": 8, "a (2 of 3)": 8, "a (3 of 3)": 3} == {title: len(some) for title, some in cells.items()}


SPARSE = """
name: made
question: Why?
seeds: [0, 1]
scenarios:
  - {name: a, rounds: 2, num_clients: [2, 3], learning_rate: [0.1, 0.2]}
"""


def test_cells_that_fill_no_grid_are_shown_one_by_one_and_together(tmp_path: Path) -> None:
    stored = stored_suite(made_suite(tmp_path, SPARSE))
    figures = figures_of(replace(stored, cells=stored.cells[::3]))
    words = ["num clients 2, learning rate 0.1", "num clients 3, learning rate 0.2"]
    assert (Kind.DOTS, words) == (figures["accuracy-by-cell"].kind, column(figures["accuracy-by-cell"], "cell"))
    curves = figures["accuracy-by-round"]
    assert ({"a"}, words) == (set(column(curves, "panel")), list(dict.fromkeys(column(curves, "cell"))))


def test_many_cells_are_told_apart_by_more_axes(tmp_path: Path) -> None:
    rates = "[0.1, 0.2, 0.3, 0.4, 0.5]"
    text = SPARSE.replace("learning_rate: [0.1, 0.2]", f"examples_per_client: [10, 20], learning_rate: {rates}")
    figure = figures_of(stored_suite(made_suite(tmp_path, text)))["loss-by-round"]
    panels = [f"a: num clients {clients}, examples per client {n}" for clients in (2, 3) for n in (10, 20)]
    assert panels == list(dict.fromkeys(column(figure, "panel")))
    assert 5 == len(set(column(figure, "cell")))


def test_of_many_rounds_some_are_shown_with_the_last(tmp_path: Path) -> None:
    stored = stored_suite(made_suite(tmp_path, ONE_CELL.replace("rounds: 2", "rounds: 401")))
    figure = figures_of(stored)["loss-by-round"]
    rounds = column(figure, "round")
    assert ([2, 5, 8], 401, 134) == (rounds[:3], rounds[-1], len(rounds))
    assert "Of more than 200 rounds every second, third, and so on is shown, and the last." in figure.caption


def test_an_axis_may_have_the_name_of_a_column() -> None:
    assert ("low (field)", "num clients") == (axis_words("low"), axis_words("num_clients"))


def test_confusion_matrices_are_summed_over_the_seeds(figures: dict[str, Figure]) -> None:
    assert "Gone" not in figures["confusion-matrices"].caption
    rows = [row for row in figures["confusion-matrices"].rows if row["cell"] == "pair init=shared"]
    assert [(9, "75"), (3, "25"), (0, ""), (12, "100")] == [(row["images"], row["shown"]) for row in rows]


# Who has what


def dealt(folder: Path, *counts: list[list[int]]) -> StoredSuite:
    """A suite with three partitions, of which the first ones have these counts, (K, C)."""
    stored = stored_suite(made_suite(folder, PARTITIONS))
    assert isinstance(stored.source, MadeSource)
    for cell, table in zip((stored.cells[0], stored.cells[2], stored.cells[4]), counts, strict=False):
        text = PartitionTable(["left", "right"], ["cat", "<dog>"], np.array(table)).csv()
        for run in cell.runs.values():
            stored.source.texts[run.run_id, "partition.csv"] = text
    return stored


def test_each_partition_is_shown_once(tmp_path: Path) -> None:
    stored = dealt(tmp_path, [[4, 0], [0, 4]], [[4, 1], [0, 4]])
    figure = figures_of(stored)["examples-by-client-and-class"]
    first, second = dict.fromkeys(column(figure, "panel"))
    assert "a partition_alpha=0.1 learning_rate=0.1 (label skew 0.50)" == first
    assert str(second).startswith("a partition_alpha=1.0 learning_rate=0.1 (label skew")
    assert [4, 0, 0, 4, 4, 1, 0, 4] == column(figure, "examples")
    assert figure.caption.endswith("0 if they are equal. Gone from the store: the partitions of b.")


def test_balanced_partitions_are_one_sentence(tmp_path: Path) -> None:
    figure = figures_of(dealt(tmp_path, [[4, 4], [4, 4]], [[4, 5], [4, 4]]))["examples-by-client-and-class"]
    first, second = (f"a partition_alpha={alpha} learning_rate=0.1" for alpha in (0.1, 1.0))
    said = "Balanced, with as many training examples of a class at each client (±1): "
    assert figure.caption.endswith(f"{said}{first} (4), {second} (4 to 5).")
    assert not figure.rows


def test_many_clients_are_cut_with_a_word(tmp_path: Path) -> None:
    stored = stored_suite(made_suite(tmp_path, ONE_CELL))
    table = PartitionTable(list(map(str, range(300))), ["cat", "dog"], np.arange(600).reshape(300, 2))
    assert isinstance(stored.source, MadeSource)
    stored.source.texts[stored.cells[0].runs[0].run_id, "partition.csv"] = table.csv()
    figure = figures_of(stored)["examples-by-client-and-class"]
    assert 2 * 100 == len(figure.rows)
    assert "The first 100 of up to 300 clients are shown." in figure.caption
