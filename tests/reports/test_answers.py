"""Cells compared with cells: which pairs there are, what is said of them, and who is named instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from made_suite import made_suite

from fedbench.measures import RunResult, Verdict, run_result
from fedbench.reports.answers import Answer, answer_all, answer_lines, answers_json, answers_text, cell_answers
from fedbench.suites.contrast import ContrastMeasure, ContrastSpec
from fedbench.suites.schema import RunSpec
from fedbench.tracking.records import CellResult, cell_result

TWO = "{name: one, algorithm: [fedavg, fedprox]}"
RATES = "{name: one, learning_rate: [0.1, 0.2, 0.3]}"
GRID = "{name: grid, algorithm: [fedavg, fedprox], num_clients: [2, 3, 4]}"
NOISE = (-0.02, -0.01, 0.0, 0.01, 0.02)
ORDER = (0, 2, 4, 1, 3)
Number = Callable[[RunSpec], float]


def results(folder: Path, scenarios: str, number: Number, seeds: int = 5, **more: object) -> list[CellResult]:
    """The cells of a suite, each run with this accuracy."""
    text = f"name: made\nquestion: Why?\nseeds: {list(range(seeds))}\nscenarios: [{scenarios}]\n"
    cells = made_suite(folder, text).cells
    return [cell_result(cell, {run.seed: result(number(run), **more) for run in cell.runs()}) for cell in cells]


def result(accuracy: float, verdict: Verdict = Verdict.OK, **more: float) -> RunResult:
    metrics = {"accuracy": accuracy, "balanced_accuracy": accuracy / 2, "loss": 1 - accuracy, "majority_rate": 0.1}
    return run_result(verdict, None, metrics | more)


def changed(cell: CellResult, by_seed: Mapping[int, RunResult | None]) -> CellResult:
    """A cell with other results of some seeds; None: it did not run."""
    kept = {seed: by_seed.get(seed, result) for seed, result in cell.results.items()}
    return cell_result(cell.cell, {seed: result for seed, result in kept.items() if result})


def only(answers: tuple[Answer, ...]) -> Answer:
    (answer,) = answers
    return answer


def prox(gain: float, scatter: float = 0.0) -> Number:
    """FedProx gains so much on seeds that scatter, FedAvg and FedProx not alike by the second number."""
    return lambda run: (
        0.8
        + NOISE[run.seed % 5]
        + (gain + scatter * NOISE[ORDER[run.seed % 5]] if run.spec.algorithm == "fedprox" else 0.0)
    )


def test_a_difference_that_is_shown_is_a_sentence_with_its_interval(tmp_path: Path) -> None:
    """Differences 0.10, 0.098, ... 0.102: the mean is 10 points, the standard error 0.07."""
    answer = only(answer_all(results(tmp_path, TWO, prox(0.1, 0.1))))
    assert (
        answer.sentence
        == "FedProx is better than FedAvg: accuracy +10.00 points (95 % interval +9.79 to +10.21, 5 seeds)."
    )
    assert {"fedprox": (1, 1), "fedavg": (2, 2)} == answer.overall.ranks
    assert "" == answer.ranking


def test_one_that_is_not_shown_says_how_many_seeds_would_show_it(tmp_path: Path) -> None:
    answer = only(answer_all(results(tmp_path, TWO, prox(0.006, 2.0))))
    (pair,) = answer.overall.pairs
    assert not pair.shown
    assert pair.seeds_needed
    assert answer.sentence.startswith(
        "FedProx is not shown to differ from FedAvg: accuracy +0.6 points (95 % interval -"
    )
    assert answer.sentence.endswith(
        f", 5 seeds); about {-(-pair.seeds_needed // 10) * 10} seeds would show a difference of this size."
    )
    assert pair.detectable is not None
    assert pair.detectable > 5 * pair.difference
    assert {"fedprox": (1, 2), "fedavg": (1, 2)} == answer.overall.ranks


def test_equal_numbers_and_one_seed_show_nothing(tmp_path: Path) -> None:
    same = only(answer_all(results(tmp_path, TWO, prox(0.0))))
    assert same.sentence == "FedProx and FedAvg have the same accuracy in all 5 seeds."
    alike = only(answer_all(results(tmp_path, TWO, prox(0.25))))  # as equal gains in five seeds: 2 in 32 by chance
    assert "not shown to differ" in alike.sentence
    assert "+25.0 points (the same in all 5 seeds); about 6 seeds would show" in alike.sentence
    one = only(answer_all(results(tmp_path, TWO, prox(0.1), seeds=1)))
    assert one.sentence.endswith("accuracy +10.0 points (one seed); one seed shows no difference.")


@pytest.mark.parametrize(("seeds", "which"), [(1, "one seed"), (2, "both seeds"), (5, "all 5 seeds")])
def test_equal_cells_are_called_equal_however_many_seeds_and_values(tmp_path: Path, seeds: int, which: str) -> None:
    assert only(answer_all(results(tmp_path / "two", TWO, prox(0.0), seeds))).sentence == (
        f"FedProx and FedAvg have the same accuracy in {which}."
    )
    assert only(answer_all(results(tmp_path / "three", RATES, lambda _: 1.0, seeds))).sentence == (
        f"All 3 have the same accuracy in {which}."
    )


def test_what_is_equal_but_for_rounding_is_equal(tmp_path: Path) -> None:
    """Averages over settings of numbers such as 0.1 + 0.2 may differ in their last bits."""
    cells = results(tmp_path, TWO, prox(1e-16))
    assert "the same accuracy in all 5 seeds" in only(answer_all(cells)).sentence


def test_a_difference_has_two_digits_however_small(tmp_path: Path) -> None:
    answer = only(answer_all(results(tmp_path, TWO, prox(1e-6, 1e-6)), measure=ContrastMeasure.LOSS))
    assert "loss -0.000001000 nats (95 % interval -0.000001021 to -0.000000979, 5 seeds)" in answer.sentence


def test_ranks_need_not_be_transitive(tmp_path: Path) -> None:
    """The first is better than the second in each seed by about 10 points; the third scatters, and lies between."""

    def number(run: RunSpec) -> float:
        spread = 5 * NOISE[ORDER[run.seed]]
        return {0.1: 0.8, 0.2: 0.7 + 0.02 * NOISE[run.seed], 0.3: 0.75 + spread}[run.spec.learning_rate]

    answer = only(answer_all(results(tmp_path, RATES, number)))
    assert {"0.1": (1, 2), "0.3": (1, 3), "0.2": (2, 3)} == answer.overall.ranks
    assert answer.sentence.startswith(
        "learning_rate=0.1 has the highest accuracy of 3 values; 0.2 is shown to be lower, 0.3 is not: +5.0 "
    )


def rate(run: RunSpec) -> float:
    """0.9 at the rates 0.1 and 0.2 but for their scatter, 0.5 at 0.3."""
    base, scatter = {0.1: (0.9, 1.0), 0.2: (0.905, 0.1), 0.3: (0.5, 0.3)}[run.spec.learning_rate]
    return base + scatter * NOISE[ORDER[run.seed]]


def test_several_values_are_ranked_with_ties(tmp_path: Path) -> None:
    answer = only(answer_all(results(tmp_path, RATES, rate)))
    assert answer.ranking == "1 to 2: 0.2 (90.5), 1 to 2: 0.1 (90.0), 3: 0.3 (50.0)"
    assert answer.sentence.startswith(
        "learning_rate=0.2 has the highest accuracy of 3 values; 0.3 is shown to be lower, 0.1 is not: +0.5 "
    )
    assert [("0.1", "0.2"), ("0.1", "0.3"), ("0.2", "0.3")] == [(p.first, p.second) for p in answer.overall.pairs]
    assert {3} == {pair.num_tests for pair in answer.overall.pairs}


def test_collapsed_and_diverged_cells_are_named_and_not_compared(tmp_path: Path) -> None:
    cells = results(tmp_path, RATES, rate)
    cells[2] = changed(cells[2], dict.fromkeys((1, 4), result(0.1, Verdict.DIVERGED)))
    cells[0] = changed(cells[0], {0: result(0.1, Verdict.COLLAPSED)})
    answer = only(answer_all(cells))
    assert answer.sentence == (
        "Nothing to compare along learning_rate: learning_rate=0.1 (collapsed in 1 of 5 seeds) and learning_rate=0.3 "
        "(diverged in 2 of 5 seeds)."
    )
    cells[0] = results(tmp_path, RATES, rate)[0]
    answer = only(answer_all(cells))
    assert {"0.2": (1, 2), "0.1": (1, 2)} == answer.overall.ranks
    assert answer.sentence.endswith(" Not compared: learning_rate=0.3 (diverged in 2 of 5 seeds).")


def test_cells_with_other_seeds_are_compared_by_those_in_common(tmp_path: Path) -> None:
    cells = results(tmp_path, TWO, prox(0.1, 0.1))
    cells[1] = changed(cells[1], {0: None, 3: None, 4: RunResult(Verdict.FAILED, "it broke")})
    (pair,) = only(answer_all(cells)).overall.pairs
    assert (1, 2) == pair.seeds
    assert not pair.are_all
    assert ", 2 common seeds)" in only(answer_all(cells)).sentence
    assert only(answer_all(cells)).sentence.endswith(" Without seeds that failed: algorithm=fedprox (1 of 3 seeds).")
    cells[1] = changed(cells[1], {1: None})
    assert "points (one common seed); one seed shows no difference." in only(answer_all(cells)).sentence


def test_the_means_of_a_ranking_are_over_the_same_seeds(tmp_path: Path) -> None:
    """The first cell lacks the two seeds with the lowest numbers."""
    cells = results(tmp_path, RATES, lambda run: 0.5 + 0.1 * run.seed + 0.01 * (run.spec.learning_rate == 0.2))
    cells[0] = changed(cells[0], {0: None, 1: None})
    assert only(answer_all(cells)).ranking == "1 to 3: 0.2 (81.0), 1 to 3: 0.1 (80.0), 1 to 3: 0.3 (80.0)"


def test_other_axes_are_averaged_over_and_counted(tmp_path: Path) -> None:
    """FedProx gains 10 points with two and three clients and loses one with four: 19 / 3 = 6.3 on average."""

    def number(run: RunSpec) -> float:
        gain = -0.01 if run.spec.num_clients == 4 else 0.1
        return prox(gain, 0.1)(run) - (0.1 + NOISE[run.seed] / 10) * run.spec.num_clients

    by_algorithm, by_clients = answer_all(results(tmp_path, GRID, number))[::-1]
    assert ("algorithm", "num_clients") == (by_algorithm.axis, by_clients.axis)
    assert "accuracy +6.3" in by_algorithm.sentence
    assert " points on average over 3 values of num_clients, with this sign in 2 (95 %" in by_algorithm.sentence
    assert [{"num_clients": "2"}, {"num_clients": "3"}, {"num_clients": "4"}] == [
        s.fixed for s in by_algorithm.settings
    ]
    assert [["fedprox", "fedavg"]] * 2 + [["fedavg", "fedprox"]] == [list(s.ranks) for s in by_algorithm.settings]
    assert [4, 9] == [by_algorithm.overall.pairs[0].num_tests, by_algorithm.settings[0].pairs[0].num_tests]
    assert by_clients.sentence.startswith("num_clients=2 is the best of 3 values: accuracy +10.0")


def test_a_value_that_is_compared_in_one_setting_alone_says_so(tmp_path: Path) -> None:
    cells = results(tmp_path, GRID, prox(0.1, 0.1))
    cells = [
        changed(cell, {0: result(0.1, Verdict.COLLAPSED)}) if cell.cell.spec.num_clients > 2 else cell for cell in cells
    ]
    (by_algorithm,) = (each for each in answer_all(cells) if each.axis == "algorithm")
    assert "accuracy +10.00 points in the one setting that has both (95 %" in by_algorithm.sentence
    assert by_algorithm.sentence.endswith(" Not compared: 4 cells (collapsed).")


def test_options_of_a_part_belong_to_its_value(tmp_path: Path) -> None:
    scenarios = "{name: one, algorithm: [fedavg, {use: fedprox, proximal_weight: [0.1, 1]}]}"
    cells = results(tmp_path, scenarios, prox(0.1, 0.1))
    along = only(answer_all(cells))
    weights = only(answer_all(cells, ContrastSpec(axes=("proximal_weight",))))
    texts = ["fedavg", "fedprox proximal_weight=0.1", "fedprox proximal_weight=1.0"]
    assert ("algorithm", "proximal_weight") == (along.axis, weights.axis)
    assert set(texts) == along.overall.ranks.keys()
    assert {"0.1": (1, 2), "1.0": (1, 2)} == weights.overall.ranks


def test_settings_are_named_by_what_their_cells_have(tmp_path: Path) -> None:
    scenarios = (
        "{name: one, init: [shared, independent], algorithm: [fedavg, {use: fedprox, proximal_weight: [0.1, 1]}]}"
    )
    by_init, along = answer_all(results(tmp_path, scenarios, lambda run: 0.5 + NOISE[run.seed]))
    assert [
        {"algorithm": "fedavg"},
        *({"algorithm": "fedprox", "proximal_weight": text} for text in ("0.1", "1.0")),
    ] == [each.fixed for each in by_init.settings]
    assert along.ranking.startswith("1 to 3: FedAvg (50.0), 1 to 3: FedProx proximal_weight=0.1 (50.0)")


def test_cells_that_differ_in_more_than_the_axis_are_no_pair(tmp_path: Path) -> None:
    """As in a store, where a cell of the file before a change may remain."""
    before = results(tmp_path / "before", "{name: one, num_clients: [2, 3], rounds: 5}", lambda _: 0.5)
    after = results(tmp_path / "after", "{name: one, num_clients: [3, 4], rounds: 6}", lambda _: 0.6)
    answer = only(answer_all([before[0], *after]))
    assert {"3", "4"} == answer.overall.ranks.keys()
    assert () == answer_all([before[0], after[0]])


def test_the_suite_chooses_axes_and_measure(tmp_path: Path) -> None:
    cells = results(tmp_path, GRID, prox(0.1, 0.1))
    assert () == answer_all(cells, ContrastSpec(axes=()))
    chosen = ContrastSpec(axes=("algorithm",), measure=ContrastMeasure.LOSS)
    answer = only(answer_all(cells, chosen))
    assert "loss -0.100" in answer.sentence
    assert {"fedprox": (1, 1), "fedavg": (2, 2)} == answer.overall.ranks
    assert "accuracy" in only(answer_all(cells, chosen, ContrastMeasure.ACCURACY)).sentence


def test_more_than_six_values_are_compared_on_request(tmp_path: Path) -> None:
    cells = results(tmp_path, "{name: one, num_clients: [2, 3, 4, 5, 6, 7, 8]}", lambda _: 0.5)
    named = only(answer_all(cells))
    assert () == named.overall.pairs == named.settings
    assert named.sentence == (
        "num_clients is not compared: it has 7 values. Name it in the suite's contrast to compare every two."
    )
    assert 21 == len(only(answer_all(cells, ContrastSpec(axes=("num_clients",)))).overall.pairs)
    assert () == answer_all(cells, ContrastSpec(axes=()))


def test_scenarios_are_compared_on_request(tmp_path: Path) -> None:
    scenarios = "{name: avg, rounds: 2}, {name: prox, algorithm: fedprox, learning_rate: 0.2}"
    cells = results(tmp_path, scenarios, prox(0.1, 0.1))
    assert () == answer_all(cells)
    answer = only(answer_all(cells, ContrastSpec(axes=("scenario",))))
    assert answer.sentence.startswith("prox is better than avg: accuracy +10.00 points")


def test_an_axis_of_one_scenario_belongs_to_its_value(tmp_path: Path) -> None:
    """As an option of one's own part, compared with a built-in part; both have the axis `num_clients`."""
    scenarios = (
        "{name: mine, num_clients: [2, 3], algorithm: {use: fedprox, proximal_weight: [0.1, 1]}},"
        "{name: built-in, num_clients: [2, 3]}"
    )
    answer = only(answer_all(results(tmp_path, scenarios, prox(0.1, 0.1)), ContrastSpec(axes=("scenario",))))
    mine = ["mine proximal_weight=0.1", "mine proximal_weight=1.0"]
    assert {mine[0]: (1, 2), mine[1]: (1, 2), "built-in": (3, 3)} == answer.overall.ranks
    assert [{"num_clients": "2"}, {"num_clients": "3"}] == [each.fixed for each in answer.settings]


def test_balanced_accuracy_counts_where_classes_are_unbalanced(tmp_path: Path) -> None:
    recalls = {f"recall/{name}": 0.5 for name in "abc"}
    for majority, words in ((0.4, "accuracy"), (0.67, "balanced accuracy")):
        cells = results(tmp_path, TWO, prox(0.1), majority_rate=majority, **recalls)
        assert words == only(answer_all(cells)).measure.words


def test_a_target_that_some_seeds_miss_is_named(tmp_path: Path) -> None:
    cells = results(
        tmp_path, "{name: one, num_clients: [2, 3], target_accuracy: 0.9}", lambda _: 0.9, rounds_to_target=3
    )
    cells[1] = changed(cells[1], {0: result(0.5)})
    answer = only(answer_all(cells, measure=ContrastMeasure.ROUNDS_TO_TARGET))
    assert "num_clients=3 (did not reach the target in 1 of 5 seeds)" in answer.sentence
    assert answer_all(cells, measure=ContrastMeasure.WORST_CLIENT)[0].sentence == (
        "Nothing to compare along num_clients: num_clients=2 (no worst client's accuracy on record) and "
        "num_clients=3 (no worst client's accuracy on record)."
    )


def test_runs_that_stop_at_their_target_are_compared_by_their_rounds(tmp_path: Path) -> None:
    text = "{name: one, algorithm: [fedavg, fedprox], target_accuracy: 0.9, stop_at_target: true}"
    cells = results(tmp_path, text, lambda _: 0.9)
    for cell, rounds in zip(range(2), (20.0, 12.0), strict=True):
        runs = {seed: result(0.9, rounds_to_target=rounds + 0.1 * seed * (1 + cell)) for seed in range(5)}
        cells[cell] = changed(cells[cell], runs)
    assert only(answer_all(cells)).sentence.startswith(
        "FedProx is better than FedAvg: rounds to the target -7.80 (95 %"
    )


def test_the_worst_client_is_each_seeds_worst(tmp_path: Path) -> None:
    number = prox(0.1, 0.1)
    clients = {"client_accuracy/0": 0.3, "client_accuracy/1": 0.2}
    cells = results(tmp_path, TWO, number, **clients)
    assert {"fedavg": 0.2, "fedprox": 0.2} == only(
        answer_all(cells, measure=ContrastMeasure.WORST_CLIENT)
    ).overall.means


def test_the_lines_after_a_run_are_few_and_of_what_is_shown(tmp_path: Path) -> None:
    scenarios = ", ".join(f"{{name: s{index}, algorithm: [fedavg, fedprox]}}" for index in range(6))
    cells = results(tmp_path, scenarios, lambda run: prox(0.1 * (run.scenario == "s5"), 0.1)(run))
    lines = answer_lines(answer_all(cells), 2)
    assert [line[:26] for line in lines] == ["s0: FedProx is not shown t", "s5: FedProx is better than"]


def test_each_cell_has_its_rank_and_who_differs(tmp_path: Path) -> None:
    notes = cell_answers(answer_all(results(tmp_path, RATES, rate)))
    assert {"one learning_rate=0.1", "one learning_rate=0.2", "one learning_rate=0.3"} == notes.keys()
    assert notes["one learning_rate=0.2"] == {
        "learning_rate": "rank 1 to 2 of 3 by accuracy; not shown to differ from 0.1; shown to be higher than 0.3"
    }
    cells = results(tmp_path, RATES, rate)
    cells[2] = changed(cells[2], {1: result(0.1, Verdict.DIVERGED)})
    found = cell_answers(answer_all(cells))["one learning_rate=0.3"]
    assert {"learning_rate": "not compared by accuracy: diverged in 1 of 5 seeds"} == found


def test_the_json_has_numbers_and_names(tmp_path: Path) -> None:
    (found,) = answers_json(answer_all(results(tmp_path, TWO, prox(0.1, 0.1))))
    keys = ["scenario", "axis", "measure", "sentence", "ranks", "pairs", "settings", "left_out", "failed"]
    assert keys == list(found)
    (pair,) = found["pairs"]
    assert ("fedavg", "fedprox", [0, 1, 2, 3, 4]) == (pair["first"], pair["second"], pair["seeds"])
    assert pytest.approx(0.1) == pair["difference"]
    assert pair["shown"] is True
    assert 2 == len(pair["ci95"])


def test_a_suite_without_pairs_says_what_would_make_them(tmp_path: Path) -> None:
    answers = answer_all(results(tmp_path, "{name: one}", lambda _: 0.5))
    assert "No cells are compared" in answers_text("Why?", answers)
    assert "Not compared: 2 older cells of the same name" in answers_text("Why?", answers, 2)
