"""A study in MLflow: a run of its own and one per trial, whoever writes at the same time, dies or resumes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import mlflow
import numpy as np
import pytest
from made_study import WIDE_SPACE, made_plan, made_result, made_trial, without_answer
from mlflow import MlflowClient
from tiny_store import Store, track, write_suite

from fedbench.measures import Verdict
from fedbench.reports.tables import export_suite
from fedbench.stats import spread
from fedbench.suites.schema import Suite
from fedbench.suites.tune import Objective
from fedbench.tracking.mlflow.client import MAX_BATCH, StoreClient
from fedbench.tracking.mlflow.listing import list_runs
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.tracking.mlflow.tracker import MlflowTracker
from fedbench.tracking.mlflow.views import SHARED_VIEW
from fedbench.tuning import study_records as studies
from fedbench.tuning.recording import StudyRun
from fedbench.tuning.views import TRIALS
from fedbench.util.errors import StoreError

FIGURE = {"title": "The search"}


@pytest.fixture
def tracker(tmp_path: Path, empty_store: bytes) -> MlflowTracker:
    """Of the experiment in which the studies of the suite `made` are."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(empty_store)
    suite = Suite.model_construct(name="made.tuning", question="What is best?", seeds=(0,), scenarios=(), path=Path())
    return MlflowTracker(suite, f"sqlite:///{tmp_path}/mlruns/mlflow.db")


def open_study(tracker: MlflowTracker, plan: Any = None, identity: str = "cafe") -> StudyRun:
    return StudyRun(tracker.client, tracker.experiment_id, plan or made_plan(), identity)


def of_kind(tracker: MlflowTracker, kind: str) -> list[Any]:
    """The runs of a kind, by the number of their trial if they have one."""
    found = tracker.client.search_runs([tracker.experiment_id], f"tags.`fedbench.kind` = '{kind}'")
    return sorted(found, key=lambda run: int(run.data.tags.get("fedbench.trial", "0")))


def numbers(tracker: MlflowTracker) -> list[int]:
    return [int(run.data.tags["fedbench.trial"]) for run in of_kind(tracker, "trial")]


def history(tracker: MlflowTracker, run: Any, name: str) -> dict[int, float]:
    return {point.step: point.value for point in tracker.client.get_metric_history(run.info.run_id, name)}


def artifact(tracker: MlflowTracker, run_id: str, path: str, folder: Path) -> bytes:
    return Path(tracker.client.download_artifacts(run_id, path, str(folder))).read_bytes()


# What is written


def test_a_study_has_one_run_which_is_under_way_from_the_beginning(tracker: MlflowTracker) -> None:
    study = open_study(tracker)
    (run,) = of_kind(tracker, "study")
    assert (study.run_id, "RUNNING") == (run.info.run_id, run.info.status)
    expected = {"study": "cafe", "suite": "made", "scenario": "pair", "cell": "pair init=shared", "trials": "12"}
    assert {f"fedbench.{name}": value for name, value in expected.items()}.items() <= run.data.tags.items()
    expected = {"seeds": "0,1,2", "objective": "accuracy", "validation": "0.2"}
    expected |= {"space/learning_rate": "0.001..1.0 log", "space/local_epochs": "1..20 log"}
    assert expected.items() <= run.data.params.items()


def test_choices_are_written_as_the_suite_file_has_them(tracker: MlflowTracker) -> None:
    open_study(tracker, made_plan(space=WIDE_SPACE))
    (run,) = of_kind(tracker, "study")
    assert "10, 50, null" == run.data.params["space/batch_size"]
    assert "0.1..1.0" == run.data.params["space/client_fraction"]


def test_a_trial_is_a_nested_run_with_the_configuration_and_what_it_measured(tracker: MlflowTracker) -> None:
    plan = made_plan()
    study = open_study(tracker)
    trial = made_trial(plan, 7, {"local_epochs": 10, "learning_rate": 0.1})
    study.record([trial])
    (run,) = of_kind(tracker, "trial")
    assert "trial 7 local_epochs=10 learning_rate=0.1" == run.info.run_name
    assert study.run_id == run.data.tags["mlflow.parentRunId"]
    assert "FINISHED" == run.info.status
    expected = {"trial": "7", "state": "complete", "verdict": "ok", "study": "cafe", "suite": "made"}
    assert {f"fedbench.{name}": value for name, value in expected.items()}.items() <= run.data.tags.items()
    spec = plan.spec_of(trial.params).model_dump()
    assert {key: str(value) for key, value in spec.items() if value is not None} == run.data.params
    # 0.95 - 0.2 / round; with seeds at 0.01 below and above, the sample standard deviation is 0.01
    expected = [0.75, 0.85, 0.95 - 0.2 / 3, 0.9]
    assert dict(enumerate(map(pytest.approx, expected), start=1)) == history(tracker, run, "validation/accuracy")
    assert {4: pytest.approx(0.9)} == history(tracker, run, "objective")
    assert {4: pytest.approx(0.01)} == history(tracker, run, "objective/std")
    assert {"validation/balanced_accuracy", "validation/loss", "train_loss"} <= run.data.metrics.keys()
    assert (480, 2.5) == (run.data.metrics["local_steps"], run.data.metrics["seconds"])
    assert 2_500 == run.info.end_time - run.info.start_time


def test_a_trial_that_failed_says_why_and_has_no_objective(tracker: MlflowTracker) -> None:
    plan = made_plan()
    open_study(tracker).record([made_trial(plan, 3, plan.default, "failed")])
    (run,) = of_kind(tracker, "trial")
    reason = "RuntimeError: no memory"
    assert ("FAILED", "failed", reason) == (
        run.info.status,
        run.data.tags["fedbench.verdict"],
        run.data.tags["fedbench.reason"],
    )
    assert {"local_steps", "seconds"} == set(run.data.metrics)


def test_an_objective_that_is_not_finite_is_left_out_and_is_in_the_rounds(tracker: MlflowTracker) -> None:
    plan = made_plan(objective=Objective.LOSS)
    trial = made_trial(plan, 1, plan.default)
    rounds = (*trial.rounds[:-1], trial.rounds[-1] | {"loss": math.inf})
    trial = replace(trial, rounds=rounds, values=(math.inf,) * 3, value=math.inf, verdict=Verdict.DIVERGED)
    open_study(tracker, plan).record([trial])
    (run,) = of_kind(tracker, "trial")
    assert "objective" not in run.data.metrics
    assert history(tracker, run, "validation/loss")[4] > 1e300


def test_the_objective_of_a_pruned_trial_is_left_out_as_it_is_not_that_of_the_others(tracker: MlflowTracker) -> None:
    plan = made_plan()
    open_study(tracker).record([made_trial(plan, 1, plan.default, "pruned")])
    (run,) = of_kind(tracker, "trial")
    assert "objective" not in run.data.metrics
    assert {1, 2} == history(tracker, run, "validation/accuracy").keys()


def test_a_trial_of_many_rounds_is_written_in_batches(tracker: MlflowTracker) -> None:
    plan = made_plan()
    trial = made_trial(plan, 1, plan.default)
    open_study(tracker).record([replace(trial, rounds=trial.rounds[:1] * 300)])
    (run,) = of_kind(tracker, "trial")
    assert 300 * len(trial.rounds[0]) > MAX_BATCH
    assert list(range(1, 301)) == sorted(history(tracker, run, "validation/loss"))


def test_a_finished_study_has_its_answer_its_numbers_and_its_files(tracker: MlflowTracker, tmp_path: Path) -> None:
    result = made_result()
    assert result.best is not None
    study = open_study(tracker)
    study.finish(result, [FIGURE])
    (run,) = of_kind(tracker, "study")
    assert "FINISHED" == run.info.status
    assert ("better", "ok", result.reason) == tuple(
        run.data.tags[f"fedbench.{name}"] for name in ("answer", "verdict", "reason")
    )
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith(f"**better**: {result.reason}\n\n- best: local_epochs=")
    expected = {
        "trials": 12,
        "pruned": result.count("pruned"),
        "failed": 1,
        "collapsed": 1,
        "below_majority": 1,
        "local_steps": result.local_steps,
        "best/test/mean": pytest.approx(0.89),
        "best/test/std": pytest.approx(0.02),
        "best/validation": result.best.validation.mean,
        "best/learning_rate": result.best.params["learning_rate"],
        "default/test/mean": pytest.approx(0.80),
        "default/learning_rate": 0.01,
        "gain/mean": pytest.approx(0.09),  # 0.08, 0.09 and 0.10
        "gain/ci95_low": pytest.approx(0.09 - 4.302653 * 0.01 / math.sqrt(3)),
        "gain/ci95_high": pytest.approx(0.09 + 4.302653 * 0.01 / math.sqrt(3)),
    }
    assert expected == {name: run.data.metrics[name] for name in expected}
    assert list(range(12)) == numbers(tracker)
    document = json.loads(artifact(tracker, study.run_id, "study.json", tmp_path))
    assert studies.study_json(result) | {"figures": document["figures"]} == document
    assert [FIGURE] == document["figures"]


def test_the_table_of_trials_has_a_row_per_trial(tracker: MlflowTracker, tmp_path: Path) -> None:
    result = made_result(made_plan(space=WIDE_SPACE))
    study = open_study(tracker, result.plan)
    study.finish(result, [])
    rows = list(csv.DictReader(io.StringIO(artifact(tracker, study.run_id, "trials.csv", tmp_path).decode())))
    assert [str(number) for number in range(12)] == [row["trial"] for row in rows]
    assert ("0.01", "complete", "50") == (rows[0]["learning_rate"], rows[0]["state"], rows[0]["batch_size"])
    assert spread(result.trials[0].values).mean == pytest.approx(float(rows[0]["objective"]))
    assert [str(value) for value in result.trials[0].values] == [rows[0][f"seed {seed}"] for seed in range(3)]
    assert ("", "failed", "RuntimeError: no memory") == (rows[5]["objective"], rows[5]["verdict"], rows[5]["reason"])
    assert {"10", "50", "null"} == {row["batch_size"] for row in rows}


def test_a_study_without_an_answer_has_neither_best_nor_gain(tracker: MlflowTracker, tmp_path: Path) -> None:
    study = open_study(tracker)
    study.finish(without_answer(), [])
    (run,) = of_kind(tracker, "study")
    assert ("FINISHED", "no answer") == (run.info.status, run.data.tags["fedbench.answer"])
    assert "fedbench.verdict" not in run.data.tags
    counts = {"trials", "pruned", "failed", "below_majority", "collapsed", "diverged", "local_steps", "answers"}
    assert counts == set(run.data.metrics)
    assert json.loads(artifact(tracker, study.run_id, "study.json", tmp_path))["best"] is None


def test_the_trials_have_a_view_of_their_own_with_the_best_first(tracker: MlflowTracker) -> None:
    open_study(tracker, made_plan(objective=Objective.LOSS))
    tags = tracker.client.get_experiment(tracker.experiment_id).tags
    state = json.loads(json.loads(tags[SHARED_VIEW + TRIALS])["state"])
    assert "tags.`fedbench.kind` = 'trial' and tags.`fedbench.study` = 'cafe'" == state["searchFilter"]
    assert ("metrics.`objective`", True) == (state["orderByKey"], state["orderByAsc"])


# Resuming


def test_recording_again_writes_nothing(tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    result = made_result()
    study = open_study(tracker)
    study.record(result.trials)
    again = open_study(tracker)
    for name in ("create_run", "log_batch", "set_tag", "delete_run", "set_terminated", "update_run"):
        monkeypatch.delattr(MlflowClient, name)
    study.record(result.trials)
    again.record(result.trials)
    assert list(range(12)) == numbers(tracker)


def test_a_finished_study_resumes_with_more_trials(tracker: MlflowTracker) -> None:
    first, more = made_result(count=8), made_result(made_plan(trials=14), count=14)
    study = open_study(tracker)
    study.finish(first, [])
    again = open_study(tracker, made_plan(trials=14))
    assert study.run_id == again.run_id
    (run,) = of_kind(tracker, "study")
    assert "RUNNING" == run.info.status
    assert ("14", "5,6,7") == (run.data.tags["fedbench.trials"], run.data.tags["fedbench.fresh_seeds"])
    again.finish(replace(more, fresh_seeds=(8, 9, 10), answers=2), [])
    (run,) = of_kind(tracker, "study")
    assert ("FINISHED", 14, 2) == (run.info.status, run.data.metrics["trials"], run.data.metrics["answers"])
    assert "8,9,10" == run.data.tags["fedbench.fresh_seeds"]
    assert {8: 8, 14: 14} == history(tracker, run, "trials")
    assert list(range(14)) == numbers(tracker)


def test_numbers_of_an_earlier_answer_become_nan(tracker: MlflowTracker) -> None:
    result = made_result()
    assert result.best is not None
    open_study(tracker).finish(result, [])
    open_study(tracker).finish(replace(result, gain=None, best=replace(result.best, test=None)), [])
    (run,) = of_kind(tracker, "study")
    gone = ("gain/mean", "gain/ci95_low", "best/test/mean", "best/test/std")
    assert [True] * 4 == [math.isnan(run.data.metrics[name]) for name in gone]
    assert pytest.approx(0.80) == run.data.metrics["default/test/mean"]


def test_an_interrupted_study_says_so_until_it_resumes(tracker: MlflowTracker) -> None:
    open_study(tracker).kill("interrupted")
    (run,) = of_kind(tracker, "study")
    assert ("KILLED", "interrupted") == (run.info.status, run.data.tags["fedbench.reason"])
    open_study(tracker)
    (run,) = of_kind(tracker, "study")
    assert "RUNNING" == run.info.status
    assert "fedbench.reason" not in run.data.tags


def test_a_study_that_another_command_ended_looks_alive_again_with_the_next_trial(tracker: MlflowTracker) -> None:
    result = made_result()
    one, other = open_study(tracker), open_study(tracker)
    one.record(result.trials[:1])
    other.kill("interrupted")
    one.record(result.trials[:2])
    (run,) = of_kind(tracker, "study")
    assert "RUNNING" == run.info.status


def test_nothing_ends_a_study_that_is_finished(tracker: MlflowTracker) -> None:
    study = open_study(tracker)
    study.finish(made_result(), [])
    study.kill("interrupted")
    (run,) = of_kind(tracker, "study")
    assert ("FINISHED", "better") == (run.info.status, run.data.tags["fedbench.answer"])


def test_another_identity_is_another_study(tracker: MlflowTracker) -> None:
    plan = made_plan()
    for identity in ("cafe", "beef"):
        open_study(tracker, identity=identity).record([made_trial(plan, 0, plan.default)])
    assert 2 == len(of_kind(tracker, "study"))
    assert [0, 0] == numbers(tracker)


# Several at once, and deaths


def in_threads(work: Callable[[], Any], count: int = 2) -> list[Any]:
    """Do the same in several threads, which begin at once."""
    barrier = Barrier(count)

    def begin(_: int) -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_two_that_begin_at_once_end_with_one_study_and_each_trial_once(tracker: MlflowTracker, tmp_path: Path) -> None:
    result = made_result(count=6)

    def work() -> str:
        study = StudyRun(StoreClient(tracker.uri), tracker.experiment_id, result.plan, "cafe")
        for count in range(1, 7):
            study.record(result.trials[:count])
        return study.run_id

    assert 1 == len(set(in_threads(work)))
    (run,) = of_kind(tracker, "study")
    trials = of_kind(tracker, "trial")
    assert list(range(6)) == numbers(tracker)
    assert {run.info.run_id} == {trial.data.tags["mlflow.parentRunId"] for trial in trials}
    assert {"FINISHED", "FAILED"} == {trial.info.status for trial in trials}
    assert [] == list((tmp_path / "mlruns" / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["log_batch", "set_terminated"])
def test_a_trial_whose_process_died_while_it_wrote_is_completed(tracker: MlflowTracker, name: str) -> None:
    plan = made_plan()
    trial = made_trial(plan, 0, plan.default)
    study = open_study(tracker)

    class Killed(BaseException):
        pass

    def die(*arguments: Any, **options: Any) -> None:
        if name == "set_terminated":
            raise Killed
        MlflowClient.log_batch(study.client, *arguments, **options)
        if options.get("metrics"):  # the last that is logged of a trial
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study.client, name, die)
        with pytest.raises(Killed):
            study.record([trial])
    (half,) = of_kind(tracker, "trial")
    assert "RUNNING" == half.info.status
    open_study(tracker).record([trial])
    (run,) = of_kind(tracker, "trial")
    assert (half.info.run_id, "FINISHED") == (run.info.run_id, run.info.status)
    points = tracker.client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert [1, 2, 3, 4] == [point.step for point in points]  # each once


def test_of_trials_that_two_machines_wrote_at_once_one_stays(tracker: MlflowTracker) -> None:
    plan, study = made_plan(), open_study(tracker)
    trials = [made_trial(plan, number, plan.default) for number in range(2)]
    study.record(trials[:1])
    (first,) = of_kind(tracker, "trial")
    twin = tracker.client.create_run(tracker.experiment_id, tags=first.data.tags)
    tracker.client.set_terminated(twin.info.run_id)
    open_study(tracker).record(trials)
    assert [0, 1] == numbers(tracker)


# The other kinds of runs of the experiment


@pytest.fixture
def tuned(tmp_path: Path, empty_store: bytes) -> Store:
    """A suite that ran, with a study in the same experiment."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(empty_store)
    text = "name: tiny\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, examples_per_client: 10, rounds: 1}]\n"
    suite = write_suite(tmp_path, text)
    store = Store(f"sqlite:///{tmp_path}/mlruns/mlflow.db", tmp_path / "mlruns", suite, [])
    store.outcomes = track(suite, store.uri)
    tracker = MlflowTracker(suite, store.uri)
    open_study(tracker).finish(made_result(), [])
    open_study(tracker, identity="under way").record(made_result().trials[:1])
    return store


def test_studies_do_not_disturb_what_reads_the_runs_of_a_suite(tuned: Store, tmp_path: Path) -> None:
    assert 2 == len(MlflowTracker(tuned.suite, tuned.uri).finished_runs())
    assert 2 == len(list_runs("tiny", tuned.uri))
    stored = read_suite("tiny", tuned.uri)
    assert ["a"] == [cell.label for cell in stored.cells]
    assert 2 == export_suite(stored, tmp_path / "tiny.csv")
    outcomes = track(tuned.suite, tuned.uri)
    assert [False, False] == [each.executed for each in outcomes]
    assert 1 == len(tuned.of_kind("cell"))
    track(tuned.suite, tuned.uri, fresh=True)
    assert (4, 1) == tuple(len(tuned.of_kind(kind)) for kind in ("run", "cell"))
    assert (2, 13) == tuple(len(tuned.of_kind(kind)) for kind in ("study", "trial"))


# The registry


def test_the_model_of_the_first_fresh_seed_is_registered_once_and_can_be_loaded(tuned: Store) -> None:
    study = open_study(MlflowTracker(tuned.suite, tuned.uri))
    best = made_result().best
    assert best is not None
    candidate = replace(best, run_ids=tuple(run.info.run_id for run in tuned.runs))
    for _ in range(2):
        assert "models:/best-pair@best is version 1" == study.register("best-pair", candidate)
    version = tuned.client.get_model_version_by_alias("best-pair", "best")
    assert candidate.run_ids[0] == version.run_id
    expected = {"suite": "made", "scenario": "pair", "study": "cafe", "objective": "accuracy"}
    expected |= {"params": studies.params_text(candidate.params), "validation": str(candidate.validation.mean)}
    assert {f"fedbench.{name}": value for name, value in expected.items()} == version.tags
    mlflow.set_tracking_uri(tuned.uri)
    model = mlflow.pyfunc.load_model("models:/best-pair@best")
    assert (2, 10) == model.predict(np.zeros((2, 1, 28, 28), dtype=np.float32)).shape
    other = replace(candidate, run_ids=candidate.run_ids[::-1])
    assert study.register("best-pair", other).endswith("version 2")
    assert "2" == str(tuned.client.get_model_version_by_alias("best-pair", "best").version)
    for run_ids in ((), (study.run_id,)):
        with pytest.raises(StoreError, match=r"no model is stored for best-pair in sqlite:.*: its run ended without"):
            study.register("best-pair", replace(candidate, run_ids=run_ids))
