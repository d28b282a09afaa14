"""What a study came to: in a terminal, as JSON, as figures, and on the report's page from the store alone."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from made_store import address, record
from made_study import WIDE_SPACE, made_plan, made_result, made_trial, without_answer
from made_suite import made_suite
from rich.console import Console

from fedbench.measures import Verdict
from fedbench.reports.figure import Figure, Kind, figure_json
from fedbench.reports.page import make_report
from fedbench.reports.studies import FIGURE as FIGURE_OF
from fedbench.reports.tuning import candidate_rows, headline, sentences, tuning_table
from fedbench.reports.tuning_figures import study_figures
from fedbench.stats import spread
from fedbench.suites.schema import Suite
from fedbench.suites.tune import Objective
from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.tracking.mlflow.tracker import MlflowTracker
from fedbench.tuning.reading import read_studies
from fedbench.tuning.recording import StudyRun
from fedbench.tuning.results import Answer, TuningResult
from fedbench.tuning.study_records import study_json

ADDED = ("answers", "below_majority", "diverged", "fresh_seeds_reused", "most_rounds")  # to the JSON, later
SEARCH = "The search, trial by trial"
FEW = [SEARCH, "Each field by itself", "Trials by round"]
ALL_FIGURES = [*FEW[:2], "Two fields together", "Which field matters", FEW[2]]


def printed(result: TuningResult) -> str:
    """The table in a terminal of 80 columns, with each line's words apart by one space."""
    console = Console(file=StringIO(), width=80)
    console.print(tuning_table(result))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return re.sub(r"[ \n]+", " ", text)


# Text


def test_the_table_has_default_and_best_side_by_side() -> None:
    text = printed(made_result())
    assert "made: pair init=shared Searched: local_epochs and learning_rate, for the highest accuracy on the" in text
    assert "12 trials: 8 complete, 3 pruned, 1 failed; 1 of them collapsed, 1 below majority. 3 seeds each;" in text
    for row in (
        "local epochs 5 19",
        "learning rate 0.01 0.114",
        "rounds 4 4",
        "accuracy (%), test 80.0 ± 1.0 89.0 ± 2.0",
    ):
        assert f" {row} " in text, row
    assert "gain on the test set: +9.0 points (95 % interval +6.5 to +11.5), seed by seed" in text
    assert text.rstrip().endswith("better: the best is better than the default on 3 fresh seeds")


@pytest.mark.parametrize(
    ("objective", "words", "gain"),
    [
        (Objective.BALANCED_ACCURACY, "the highest balanced accuracy on", "+9.0 points"),
        (Objective.LOSS, "the lowest loss on", "+0.090 nats"),
        (Objective.ROUNDS_TO_TARGET, "the fewest rounds to 85 % accuracy on", "+0.1 rounds"),
    ],
)
def test_each_objective_has_its_unit(objective: Objective, words: str, gain: str) -> None:
    text = printed(made_result(made_plan(objective=objective, target=0.85)))
    assert words in text
    assert f"gain on the test set: {gain} (" in text


@pytest.mark.parametrize("answer", [Answer.UNCLEAR, Answer.WORSE, Answer.SAME])
def test_a_search_that_bought_nothing_says_so(answer: Answer) -> None:
    text = printed(replace(made_result(), answer=answer, reason="so it is"))
    how = " that these seeds can show" if answer is Answer.UNCLEAR else ""
    assert f"{answer}: the search gained nothing{how}: so it is" in text


def test_where_there_is_no_answer_there_is_the_reason() -> None:
    text = printed(without_answer())
    assert "2 trials: 0 complete, 0 pruned, 2 failed" in text
    assert "no answer: 2 of 2 trials failed, the first: RuntimeError: no memory" in text
    assert "best" not in text.partition("Searched")[2].partition("budget")[0]


def test_the_budget_is_said_plainly() -> None:
    result = made_result()
    assert "budget: rounds are held equal; the best takes 3.8x the default's local steps" in printed(result)
    steps = replace(result, plan=replace(result.plan, budget="steps"))
    assert "budget: local steps are held equal; the best has 4 rounds, the default 4" in printed(steps)
    rounds = replace(result, plan=replace(result.plan, space=(replace_field(result, "rounds"),), budget="none"))
    assert "budget: rounds are searched: nothing is held equal" in printed(rounds)
    same = replace(result, best=result.default)
    assert "the best takes as many local steps as the default" in printed(same)


def replace_field(result: TuningResult, field: str) -> Any:
    return result.plan.space[0].model_copy(update={"field": field})


def test_a_best_that_collapsed_on_the_test_set_is_called_so() -> None:
    result = made_result()
    assert result.best is not None
    best = replace(result.best, verdict=Verdict.COLLAPSED, reason="1 of 3 seeds: predicts class 0")
    text = printed(replace(result, best=best))
    assert "verdict ok collapsed" in text
    below = replace(result.best, verdict=Verdict.BELOW_MAJORITY, reason="1 of 3 seeds: too few")
    assert "verdict ok below majority 1/3" in printed(replace(result, best=below))
    assert "best: collapsed, 1 of 3 seeds: predicts class 0" in text


def test_what_is_not_finite_is_null_in_json_and_called_so_in_words() -> None:
    result = made_result(made_plan(objective=Objective.LOSS))
    assert result.best is not None
    best = replace(result.best, test=spread((0.5, float("inf"), 0.5)))
    result = replace(result, best=best, gain=None)
    document = json.loads(json.dumps(study_json(result), allow_nan=False))
    assert {"mean": None, "std": None, "values": [0.5, None, 0.5]} == document["best"]["test"]
    assert {"mean": None, "low": None, "high": None} == document["gain"]
    assert "not finite" in printed(result)


def rounds_result(default: tuple[float, ...], best: tuple[float, ...]) -> TuningResult:
    """A study of the rounds to 85 %, of at most four, and of these on the test set."""
    result = made_result(made_plan(objective=Objective.ROUNDS_TO_TARGET, target=0.85))
    assert result.best is not None
    assert result.default is not None
    sides = [replace(each, test=spread(test)) for each, test in ((result.default, default), (result.best, best))]
    return replace(result, default=sides[0], best=sides[1])


def test_rounds_that_were_not_enough_are_not_shown_as_rounds() -> None:
    inf = float("inf")
    text = printed(rounds_result((5.2, 5.1, inf), (2.0, 5.3, 3.0)))
    assert "rounds to 85 % accuracy, test not reached 2 of 3 reached" in text
    assert "above zero, the best needs less; a seed that did not reach the target counts as 5 or more" in text
    text = printed(rounds_result((3.0, 3.5, 4.0), (2.0, 2.5, 3.0)))
    assert "rounds to 85 % accuracy, test 3.5 ± 0.5 2.5 ± 0.5" in text
    assert "counts as" not in text


def test_it_is_said_how_often_the_test_set_has_answered_and_whether_seeds_are_fresh() -> None:
    assert "The test set has answered once for this study." in printed(made_result())
    again = replace(made_result(), answers=3, fresh_seeds_reused=True)
    assert "has answered 3 times for this study; the more often, the less its answer shows." in printed(again)
    assert "fresh seeds were used for another answer before: take tune: fresh_seeds out" in printed(again)
    assert (3, True, [5, 6, 7]) == tuple(
        study_json(again)[name] for name in ("answers", "fresh_seeds_reused", "fresh_seeds")
    )


def test_all_verdicts_of_trials_are_counted() -> None:
    result = made_result()
    trials = [replace(each, verdict=verdict) for each, verdict in zip(result.trials, Verdict, strict=False)]
    assert "1 of them collapsed, 1 below majority, 1 diverged. 3 seeds each" in printed(replace(result, trials=trials))
    assert "1 seed each" in printed(replace(result, plan=replace(result.plan, seeds=(0,))))


def test_a_study_of_an_earlier_version_is_shown_without_what_it_lacks() -> None:
    document = {name: value for name, value in study_json(made_result()).items() if name not in ADDED}
    assert "The test set has answered" not in " ".join(sentences(document))
    assert "12 trials" in " ".join(headline(document))
    assert candidate_rows(document)


def test_the_json_has_both_configurations_and_the_gain() -> None:
    document = study_json(made_result(made_plan(space=WIDE_SPACE)))
    assert ["client_fraction", "local_epochs", "batch_size", "learning_rate"] == list(document["best"]["params"])
    assert [0.87, 0.89, 0.91] == document["best"]["test"]["values"]
    assert pytest.approx(0.09) == document["gain"]["mean"]
    assert ("better", 12, 1) == (document["verdict"], document["trials"], document["failed"])


# As figures


def shown(result: TuningResult) -> dict[str, Figure]:
    return {figure.title: figure for figure in study_figures(result)}


def test_a_study_has_its_figures_which_survive_the_store() -> None:
    figures = study_figures(made_result(made_plan(space=WIDE_SPACE), count=30))
    assert ALL_FIGURES == [figure.title for figure in figures]
    stored = json.loads(json.dumps([asdict(figure) for figure in figures], allow_nan=False))
    read = [FIGURE_OF.validate_python(each) for each in stored]
    first, second = ([json.loads(json.dumps(figure_json(each))) for each in some] for some in (figures, read))
    assert first == second


def test_trials_keep_their_numbers_where_one_is_not_there_yet() -> None:
    result = made_result(count=12)
    rows = shown(replace(result, trials=result.trials[:3] + result.trials[4:]))[SEARCH].rows
    rates = {row["trial"]: row["learning rate"] for row in rows}
    assert 3 not in rates
    assert pytest.approx(result.trials[9].params["learning_rate"], rel=1e-5) == rates[9]


def test_the_best_so_far_is_one_that_can_be_the_answer_and_what_diverged_is_not_shown() -> None:
    """Trial 1 has collapsed with a higher value than all others, and trial 2 has diverged."""
    result = made_result()
    trials = [*result.trials]
    trials[1] = replace(trials[1], value=0.99, verdict=Verdict.COLLAPSED)
    trials[2] = replace(trials[2], value=-float("inf"), verdict=Verdict.DIVERGED)
    figure = shown(replace(result, trials=tuple(trials)))[SEARCH]
    kinds = {row["trial"]: row["it is"] for row in figure.rows}
    assert result.best is not None
    assert ("the default", "no answer by its verdict") == (kinds[0], kinds[1])
    assert 2 not in kinds
    assert result.best.trial == [trial for trial, kind in kinds.items() if kind == "the best so far"][-1]
    assert "7 complete trials. Pruned, failed and diverged ones are not shown." == figure.caption


def test_a_fields_choices_are_named() -> None:
    rows = shown(made_result(made_plan(space=WIDE_SPACE), count=30))["Each field by itself"].rows
    assert {10, 50, "all"} == {row["value"] for row in rows if row["field"] == "batch size"}


def test_the_figures_are_the_same_each_time() -> None:
    result = made_result(count=20)
    assert study_figures(result) == study_figures(result)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (made_result(count=2), FEW),
        (made_result(made_plan(space=WIDE_SPACE[3:]), 12), FEW),
        (without_answer(), []),
    ],
    ids=["few trials", "one field", "no trial that ended"],
)
def test_what_cannot_be_shown_is_left_out(result: TuningResult, expected: list[str]) -> None:
    assert expected == list(shown(result))


def test_trials_of_equal_values_and_such_that_are_not_finite_do_not_disturb() -> None:
    plan = made_plan(objective=Objective.LOSS)
    trials = [replace(trial, value=0.5, values=(0.5,) * 3) for trial in made_result(plan).trials if trial.values]
    trials[3] = replace(trials[3], value=float("inf"), values=(float("inf"),) * 3)
    result = replace(made_result(plan), trials=tuple(trials))
    assert list(shown(result)) == FEW


# On the page


FIGURE = Figure("Tuning", "The <search>", "What is seen.", Kind.POINTS, [{"p": "", "x": 1, "y": 2}], "x", "y")
EARLIER = {"name": "history", "title": "By an earlier version", "caption": "A picture."}


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store in which the suite `made` ran, with two studies that are finished and one that is not."""
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    record(made_suite(tmp_path, text.replace("name: made\n", "name: made.tuning\n")), address(tmp_path))
    for identity, cell in (("one", "pair <b>"), ("two", "later")):
        study_run(address(tmp_path), identity, cell).finish(named(made_result(), cell), [asdict(FIGURE), EARLIER])
    study_run(address(tmp_path), "three", "under way").record([made_trial(made_plan(), 0, made_plan().default)])
    return address(tmp_path)


def named(result: TuningResult, cell: str) -> TuningResult:
    return replace(result, plan=replace(result.plan, cell=cell))


def study_run(uri: str, identity: str, cell: str) -> StudyRun:
    suite = Suite.model_construct(name="made.tuning", question="Why?", seeds=(0,), scenarios=(), path=Path())
    tracker = MlflowTracker(suite, uri)
    return StudyRun(tracker.client, tracker.experiment_id, made_plan(cell=cell), identity)


def page_of(name: str, uri: str, folder: Path) -> str:
    return make_report(read_suite(name, uri), folder, read_studies(open_store(uri), name)).read_text()


@pytest.mark.parametrize("name", ["made", "made.tuning"])
def test_the_report_of_a_suite_shows_its_finished_studies_the_latest_first(
    store: str, tmp_path: Path, name: str
) -> None:
    page = page_of(name, store, tmp_path / "out")
    assert ["made: later", "made: pair &lt;b&gt;"] == re.findall(r"<h3 id=\"study-\d\">(made: .*)</h3>", page)
    assert "under way" not in page
    assert 2 == page.count("<h4>The &lt;search&gt;</h4>")
    assert '<th scope="row">accuracy (%), test</th><td>80.0 ± 1.0</td><td>89.0 ± 2.0</td>' in page
    assert "<strong>better: the best is better than the default on 3 fresh seeds</strong>" in page
    assert "budget: rounds are held equal; the best takes 3.8x the default&#39;s local steps" in page
    first = "Tuning" if name == "made.tuning" else "Results by cell"
    assert first == next(title for title in re.findall(r"<h2[^>]*>(.*?)</h2>", page) if title != "Summary")
    assert (
        2 == len(re.findall(r'id="tuning-[0-9a-f]{8}-the-search-"', page)) == page.count('"title":"The \\u003csearch')
    )
    assert 2 == len(re.findall(r"Only in the artifacts of run [0-9a-f]{32}: By an earlier version\.", page))


def test_a_suite_without_studies_has_no_such_part(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    assert "Tuning" not in page_of("made", address(tmp_path), tmp_path / "out")


def test_an_experiment_that_is_not_fedbenchs_is_no_suites_tuning(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    open_store(address(tmp_path)).create_experiment("made.tuning")
    assert "Tuning" not in page_of("made", address(tmp_path), tmp_path / "out")


def test_a_study_whose_files_are_gone_is_named_and_the_others_are_shown(store: str, tmp_path: Path) -> None:
    client = open_store(store)
    experiment = client.get_experiment_by_name("made.tuning")
    assert experiment is not None
    studies = client.search_runs([experiment.experiment_id], "tags.`fedbench.study` = 'two'")
    (run,) = (run for run in studies if run.data.tags["fedbench.kind"] == "study")
    (path,) = (tmp_path / "mlruns").rglob(f"{run.info.run_id}/artifacts/study.json")
    path.write_text('{"suite": "made"}')
    assert (run.info.run_id,) == read_studies(client, "made").lost
    page = page_of("made", store, tmp_path / "out")
    assert ["made: pair &lt;b&gt;"] == re.findall(r"<h3 id=\"study-\d\">(made: .*)</h3>", page)
    assert f"The files of 1 studies cannot be read from the store: runs {run.info.run_id}." in page
    path.unlink()
    assert (run.info.run_id,) == read_studies(client, "made").lost
