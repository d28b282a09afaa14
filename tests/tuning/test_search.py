"""Optuna proposes trials, and their results go back to it; a process that dies costs its trial, and only once."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from tiny_study import compute_tiny, computed, storage_in, study_of, tiny_plan, tiny_search, tiny_work

import fedbench.tuning.trial as trial_module
from fedbench.measures import Verdict
from fedbench.suites.loading import load_suite
from fedbench.suites.tune import Axis, Objective
from fedbench.tuning.plan import Params, Plan, make_plan
from fedbench.tuning.results import TrialResult
from fedbench.tuning.search import Search, trial_results
from fedbench.tuning.slots import RESULT, SURPLUS, SlotState, slots
from fedbench.tuning.storage import STUDY, retry
from fedbench.tuning.trial import SeedProgress, TrialWork, mean_rounds, train_and_validate
from fedbench.util.errors import DataError, StoreError
from fedbench.util.locks import try_lock

Found = tuple[int, Params, float | None, Any]


def found(trials: tuple[TrialResult, ...]) -> list[Found]:
    return [(trial.number, trial.params, trial.value, trial.rounds) for trial in trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialResult, ...]:
    """Twelve trials without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    return computed(tiny_plan(folder, trials=12), storage_in(folder))


def test_the_first_trial_is_the_default_configuration(whole: tuple[TrialResult, ...]) -> None:
    assert {"local_epochs": 1, "learning_rate": 0.01} == whole[0].params
    assert list(range(12)) == [trial.number for trial in whole]


def test_another_seed_gives_other_trials(tmp_path: Path, whole: tuple[TrialResult, ...]) -> None:
    other = computed(tiny_plan(tmp_path, trials=3, sampler_seed=1), storage_in(tmp_path))
    assert found(other[:1]) == found(whole[:1])
    assert not {str(trial.params) for trial in other[1:]} & {str(trial.params) for trial in whole}


def test_an_interrupted_study_has_the_trials_of_one_that_is_not(
    tmp_path: Path, whole: tuple[TrialResult, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after some trials, is interrupted in the middle of one, and killed in the middle of another."""

    def interrupted(*_: object) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    computed(tiny_plan(tmp_path, trials=2), storage_in(tmp_path))
    work = tiny_work(tiny_plan(tmp_path, trials=12), storage_in(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "train_and_validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(compute_tiny(work))
    assert [0, 1] == [trial.number for trial in trial_results(study_of(work), work.plan)]
    computed(tiny_plan(tmp_path, trials=7), storage_in(tmp_path))
    begin(tiny_search(work))  # a trial whose process died before it chose its parameters
    list(compute_tiny(work))
    assert found(whole) == found(trial_results(study_of(work), work.plan))
    assert [] == list((tmp_path / "checkpoints").iterdir())


def test_a_process_that_was_asleep_and_lost_its_trial_continues_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(tmp_path, trials=3)
    work = tiny_work(plan, storage_in(tmp_path))
    search = tiny_search(work)
    asleep: list[bool] = []

    def slow_once(*arguments: Any) -> Any:
        if not asleep:
            asleep.append(True)
            search.study.tell(0, state=TrialState.FAIL)  # another machine missed its heartbeat
            search.retry_dead()
        return train_and_validate(*arguments)

    monkeypatch.setattr(trial_module, "train_and_validate", slow_once)
    list(compute_tiny(work, search))
    assert [(0, "complete"), (1, "complete"), (2, "complete")] == [
        (trial.number, trial.state) for trial in trial_results(search.study, plan)
    ]


def test_a_trial_that_raises_an_error_has_failed_with_its_reason_and_the_others_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(spec: Any, *arguments: Any) -> Any:
        if spec.learning_rate != 0.01:
            raise RuntimeError("out of\nmemory")
        return train_and_validate(spec, *arguments)

    monkeypatch.setattr(trial_module, "train_and_validate", failing)
    trials = computed(tiny_plan(tmp_path, trials=3), storage_in(tmp_path))
    assert ["complete", "failed", "failed"] == [trial.state for trial in trials]
    assert ("RuntimeError: out of memory", Verdict.FAILED, None) == (
        trials[1].reason,
        trials[1].verdict,
        trials[1].value,
    )


def test_no_trial_sees_the_test_set(
    tmp_path: Path, whole: tuple[TrialResult, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test set is out of reach: whatever a trial measures, it is not that."""
    import fedbench.datasets.mnist_5k as module

    training = module.load_training(tmp_path, "stratified")
    monkeypatch.setattr(module, "load", lambda *_: pytest.fail("the test set was read"))
    monkeypatch.setattr(module, "load_training", lambda *_: training)
    blind = computed(tiny_plan(tmp_path, trials=2), storage_in(tmp_path))
    assert found(whole[:2]) == found(blind)


def test_a_trial_measures_the_mean_over_its_seeds(tmp_path: Path, whole: tuple[TrialResult, ...]) -> None:
    trial = whole[0]
    one = [computed(tiny_plan(tmp_path, 1, seeds=(seed,)), storage_in(tmp_path))[0] for seed in (0, 1)]
    assert (one[0].value, one[1].value) == trial.values
    assert sum(trial.values) / 2 == trial.value == trial.rounds[-1]["accuracy"]
    assert one[0].local_steps + one[1].local_steps == trial.local_steps == 2 * 2 * 3  # seeds x clients x rounds


def test_pruning_ends_bad_trials_early_and_can_be_switched_off(tmp_path: Path, whole: tuple[TrialResult, ...]) -> None:
    unpruned = computed(tiny_plan(tmp_path, trials=8, pruning=False), storage_in(tmp_path))
    assert {"complete"} == {trial.state for trial in unpruned}
    pruned = [trial for trial in whole if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.rounds) < 3 for trial in pruned)


def test_no_trial_is_begun_after_the_deadline(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=3)
    work = tiny_work(plan, storage_in(tmp_path))
    search = tiny_search(work, deadline=time.monotonic() - 1)
    list(compute_tiny(work, search))
    assert () == trial_results(search.study, plan)


def test_with_equal_steps_fewer_epochs_have_more_rounds(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=6, budget="steps", space=(Axis(field="local_epochs", low=1, high=3),))
    trials = computed(replace(plan, pruning=False), storage_in(tmp_path))
    rounds = {trial.params["local_epochs"]: len(trial.rounds) for trial in trials}
    assert {1: 3, 2: 1, 3: 1} | rounds == {1: 3, 2: 1, 3: 1}


GRID = (Axis(field="local_epochs", choices=(1, 2)), Axis(field="batch_size", choices=(50, None, 5)))


class TestGrid:
    """A space of few choices, each of which is tried once."""

    @pytest.fixture
    def plan(self, tmp_path: Path) -> Plan:
        return tiny_plan(tmp_path, trials=6, space=GRID, seeds=(0,))

    @pytest.mark.parametrize("seed", [0, 1])
    def test_each_point_is_tried_once_the_default_first_in_an_order_that_the_seed_gives(
        self, plan: Plan, tmp_path: Path, seed: int
    ) -> None:
        trials = [each.params for each in computed(replace(plan, sampler_seed=seed), storage_in(tmp_path))]
        assert trials[0] == {"local_epochs": 1, "batch_size": 50}
        assert 6 == len({tuple(params.items()) for params in trials})
        expected = [(1, 50), (2, 50), (2, 5), (2, None), (1, None), (1, 5)]
        assert (seed == 0) == (expected == [tuple(params.values()) for params in trials])

    def test_there_are_no_more_trials_than_points(self, tmp_path: Path) -> None:
        path = tmp_path / "rates.yaml"
        path.write_text(
            "{name: rates, question: Which, seeds: [0], scenarios: [{name: one, examples_per_client: 10}],"
            " tune: {space: {learning_rate: [0.01, 0.1]}, trials: 12}}"
        )
        plan = make_plan(load_suite(path))
        assert (2, ("2 trials in place of 12: one for each point of the space",)) == (plan.trials, plan.notes)
        plan = make_plan(load_suite(path), trials=1)
        assert (1, ()) == (plan.trials, plan.notes)

    def test_a_grid_larger_than_the_trials_is_left_to_the_sampler(self, plan: Plan) -> None:
        space = (Axis(field="local_epochs", choices=tuple(range(1, 12))),)
        assert () == replace(plan, space=space).grid
        assert 11 == len(replace(plan, space=space, trials=11).grid)


def begin(search: Search) -> int:
    """Begin a trial as a process of this machine does that dies at once; Optuna's number of it."""
    number = search.study.ask().number
    search.lock_path(number).parent.mkdir(exist_ok=True)
    search.lock_path(number).touch()
    return number


class TestDeadProcesses:
    """A study in which nothing is computed."""

    @pytest.fixture
    def search(self, tmp_path: Path) -> Search:
        return tiny_search(tiny_work(tiny_plan(tmp_path), storage_in(tmp_path)))

    @staticmethod
    def states(search: Search) -> list[TrialState]:
        return [trial.state for trial in search.study.trials]

    def test_the_trial_of_a_dead_process_is_queued_again_at_once_and_only_once(self, search: Search) -> None:
        begin(search)
        for _ in range(3):
            search.retry_dead()
        assert [TrialState.FAIL, TrialState.WAITING] == self.states(search)
        assert [SlotState.WAITING] == [slot.state for slot in slots(search.study.trials)]

    def test_the_trial_of_a_live_process_and_of_another_machine_are_left_alone(self, search: Search) -> None:
        held = try_lock(search.lock_path(begin(search)))
        search.study.ask()  # there is no lock of it here
        search.retry_dead()
        assert [TrialState.RUNNING, TrialState.RUNNING] == self.states(search)
        assert held is not None
        held.release()

    def test_one_that_failed_without_a_result_is_queued(self, search: Search) -> None:
        search.study.tell(begin(search), state=TrialState.FAIL)
        search.retry_dead()
        assert [TrialState.FAIL, TrialState.WAITING] == self.states(search)

    def test_one_that_died_between_its_result_and_its_end_is_tried_again(self, search: Search) -> None:
        trial = search.study.ask()
        trial.set_user_attr(RESULT, {"state": "complete"})
        search.study.tell(trial, state=TrialState.FAIL)
        search.retry_dead()
        assert [SlotState.WAITING] == [slot.state for slot in slots(search.study.trials)]

    def test_one_that_died_before_it_had_all_parameters_draws_the_same_anew(self, search: Search) -> None:
        trial = search.study.ask()
        trial.suggest_int("local_epochs", 1, 3)
        search.study.tell(trial, state=TrialState.FAIL)
        search.retry_dead()
        assert {} == search.study.trials[-1].params

    def test_after_eleven_deaths_it_has_failed(self, search: Search) -> None:
        for _ in range(11):
            begin(search)
            search.retry_dead()
        (result,) = trial_results(search.study, search.plan)
        assert ("failed", "its process died 11 times") == (result.state, result.reason)

    def test_one_that_two_machines_queued_again_is_computed_once(self, search: Search, tmp_path: Path) -> None:
        begin(search)
        search.retry_dead()
        retry(search.study, search.study.trials[0])  # another machine, at the same moment
        plan = tiny_plan(tmp_path, trials=2)
        list(compute_tiny(tiny_work(plan, storage_in(tmp_path))))
        ended = [trial for trial in search.study.trials if RESULT in trial.user_attrs]
        assert 2 == len(ended) == len(trial_results(search.study, plan))
        assert 1 == sum(SURPLUS in trial.user_attrs for trial in search.study.trials)


def test_two_commands_at_once_end_with_the_trials_asked_for(tmp_path: Path) -> None:
    work = tiny_work(tiny_plan(tmp_path, trials=6), storage_in(tmp_path))
    searches = [tiny_search(work) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda search: list(compute_tiny(tiny_work(work.plan, work.storage), search)), searches))
    trials = study_of(work).trials
    assert [*range(6)] == [trial.number for trial in trials]
    assert 6 == len({str(trial.params) for trial in trials})
    assert all(trial.state.is_finished() for trial in trials)
    assert [] == list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
def test_two_workers_one_of_which_is_killed_end_with_the_trials_asked_for(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=6)
    work = tiny_work(plan, storage_in(tmp_path))
    search = tiny_search(work)
    is_killed = False
    for _ in compute_tiny(work, search, 2):
        if not is_killed and multiprocessing.active_children():
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            is_killed = True
    assert is_killed
    assert list(range(6)) == [trial.number for trial in trial_results(search.study, plan)]
    assert 6 == sum(RESULT in trial.user_attrs for trial in search.study.trials)


@pytest.mark.slow
def test_a_command_that_is_killed_is_resumed_at_once(tmp_path: Path, whole: tuple[TrialResult, ...]) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from tiny_study import *\n"
        "computed(tiny_plan(Path(sys.argv[2]), 12), storage_in(Path(sys.argv[2])))"
    )
    helpers = str(Path(__file__).parents[1] / "helpers")
    with subprocess.Popen([sys.executable, "-c", code, helpers, str(tmp_path)]) as process:
        while process.poll() is None and not list((tmp_path / "checkpoints").glob("*-trial-1.lock")):
            time.sleep(0.02)
        process.kill()
    began = time.monotonic()
    assert found(whole) == found(computed(tiny_plan(tmp_path, 12), storage_in(tmp_path)))
    assert time.monotonic() - began < 60  # no heartbeat was waited for


class TestErrors:
    """What is wrong with a storage is one line."""

    def test_an_error_of_a_worker_that_a_user_can_fix_ends_the_study(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def last(*arguments: Any) -> Any:
            yield from train_and_validate(*arguments)
            with closing(sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)) as connection:
                connection.execute("DROP TABLE trial_values")

        monkeypatch.setattr(trial_module, "train_and_validate", last)
        with pytest.raises(StoreError, match=r"storage sqlite:.* failed \(.*no such table"):
            computed(tiny_plan(tmp_path, trials=2), storage_in(tmp_path))

    def test_another_study_of_the_same_name_is_refused(self, tmp_path: Path) -> None:
        work = tiny_work(tiny_plan(tmp_path), storage_in(tmp_path))
        study_of(work).set_user_attr(STUDY, "something else")
        with pytest.raises(StoreError, match="that fedbench did not make"):
            study_of(work)


class TestObjective:
    """What a trial is judged by."""

    def test_a_trial_ends_when_every_seed_has_reached_the_target(self, tmp_path: Path) -> None:
        plan = tiny_plan(tmp_path, trials=1, objective=Objective.ROUNDS_TO_TARGET, target=0.01)
        trial = computed(plan, storage_in(tmp_path))[0]
        assert ("complete", 1.0, 1) == (trial.state, trial.value, len(trial.rounds))

    def test_a_seed_that_diverged_stays_as_it_is_and_its_loss_is_infinite(self, tmp_path: Path) -> None:
        space = (Axis(field="learning_rate", low=0.01, high=1e30),)
        plan = tiny_plan(tmp_path, 1, objective=Objective.LOSS, space=space)
        plan = replace(plan, spec=plan.spec.model_copy(update={"learning_rate": 1e30}))
        trial = computed(plan, storage_in(tmp_path))[0]
        assert Verdict.DIVERGED is trial.verdict
        assert math.inf == trial.value == trial.rounds[-1]["loss"]

    def test_a_seed_that_ended_early_counts_with_its_last_round(self) -> None:
        def rounds(*accuracies: float) -> SeedProgress:
            names = ("accuracy", "balanced_accuracy", "loss", "train_loss")
            return SeedProgress([dict.fromkeys(names, accuracy) for accuracy in accuracies])

        means = [each["accuracy"] for each in mean_rounds([rounds(0.2), rounds(0.6, 0.8)])]
        assert [0.4, 0.5] == pytest.approx(means)


def test_a_trial_in_a_process_with_other_data_ends_the_command(tmp_path: Path) -> None:
    work = tiny_work(tiny_plan(tmp_path), f"sqlite:///{tmp_path}/optuna.db")
    here = TrialWork(work.plan, work.identity, work.storage, None, "cpu", work.held_out)
    there = pickle.loads(pickle.dumps(here))  # noqa: S301 - our own bytes
    assert here.held_out.digest == there.held_out.digest
    changed = TrialWork(work.plan, work.identity, work.storage, None, "cpu", digest="of other data")
    with pytest.raises(DataError, match="dataset mnist-5k is not what the command loaded; it has changed since"):
        _ = changed.held_out
