"""Trials are taken from Optuna, computed and told; a process that dies costs its trial, and that only once."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState
from tiny_study import compute_tiny, computed, held_out_of, open_tiny, storage_in, tiny_plan, tiny_work

import fedbench.tuning.compute as compute_module
import fedbench.tuning.search as search_module
from fedbench.measures import Verdict
from fedbench.suites.loading import load_suite
from fedbench.suites.tune import Axis, Objective
from fedbench.tracking.mlflow.claims import Claim
from fedbench.tuning.plan import Params, Plan, make_plan
from fedbench.tuning.search import CLAIM, compute_trials, retry_dead, trial_results
from fedbench.tuning.slots import RESULT, SURPLUS, slots
from fedbench.tuning.trial import SeedProgress, Validation, mean_rounds, objective_value, train_and_validate
from fedbench.util.errors import StoreError


def test_the_first_trial_is_the_default_configuration(tmp_path: Path) -> None:
    trials = computed(tiny_plan(tmp_path, trials=2), storage_in(tmp_path))
    assert {"local_epochs": 1, "learning_rate": 0.01} == trials[0].params
    assert [0, 1] == [trial.number for trial in trials]


def test_the_same_seed_gives_the_same_trials_and_another_gives_others(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        plan = tiny_plan(tmp_path, trials=12, sampler_seed=seed)
        trials = computed(plan, storage_in(tmp_path / name))
        found.append([(trial.params, trial.state, trial.value, trial.rounds) for trial in trials])
    assert found[0] == found[1]
    assert found[0][1:] != found[2][1:]


@pytest.mark.slow
def test_a_study_that_is_interrupted_after_each_trial_has_the_trials_of_one_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    whole = computed(tiny_plan(tmp_path, trials=12), storage_in(tmp_path))
    cut = ()
    for trials in range(1, 13):
        cut = computed(tiny_plan(tmp_path, trials=trials), storage_in(tmp_path / "cut"))
    assert [(trial.params, trial.value) for trial in whole] == [(trial.params, trial.value) for trial in cut]


def test_a_trial_that_is_interrupted_is_tried_again_with_the_same_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(tmp_path, trials=3)
    whole = computed(plan, storage_in(tmp_path))
    (tmp_path / "cut").mkdir()
    work = tiny_work(plan, storage_in(tmp_path / "cut"))
    study = open_tiny(work)
    calls = 0

    def interrupted_once(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return train_and_validate(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search_module, "train_and_validate", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        list(compute_tiny(work, study))
    assert [0] == [trial.number for trial in trial_results(study, plan)]
    list(compute_tiny(work, study))
    again = trial_results(study, plan)
    assert [(trial.number, trial.params, trial.value) for trial in whole] == [
        (trial.number, trial.params, trial.value) for trial in again
    ]


def test_a_process_that_was_asleep_and_lost_its_trial_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(tmp_path, trials=3)
    work = tiny_work(plan, storage_in(tmp_path))
    study = open_tiny(work)
    asleep = []

    def slow_once(*arguments: object) -> object:
        if not asleep:
            asleep.append(True)
            study.tell(0, state=TrialState.FAIL)  # others found it without a heartbeat
            retry_dead(study)
        return train_and_validate(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search_module, "train_and_validate", slow_once)
    list(compute_tiny(work, study))
    assert [(0, "complete"), (1, "complete"), (2, "complete")] == [
        (trial.number, trial.state) for trial in trial_results(study, plan)
    ]


def test_a_trial_that_raises_an_error_has_failed_with_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(spec: object, *arguments: object) -> object:
        if spec.learning_rate != 0.01:  # type: ignore[attr-defined]
            raise RuntimeError("out of\nmemory")
        return train_and_validate(spec, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search_module, "train_and_validate", failing)
    trials = computed(tiny_plan(tmp_path, trials=3), storage_in(tmp_path))
    assert ["complete", "failed", "failed"] == [trial.state for trial in trials]
    assert "RuntimeError: out of memory" == trials[1].reason
    assert Verdict.FAILED is trials[1].verdict
    assert trials[1].value is None


def test_no_trial_sees_the_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test set is put out of reach: whatever a trial measures, it is not that."""
    import fedbench.datasets.mnist_5k as module

    plan = tiny_plan(tmp_path, trials=2)
    expected = computed(plan, storage_in(tmp_path))
    training = module.load_training(tmp_path, "stratified")
    monkeypatch.setattr(module, "load", lambda *_: pytest.fail("the test set was read"))
    monkeypatch.setattr(module, "load_training", lambda *_: training)
    (tmp_path / "blind").mkdir()
    blind = computed(plan, storage_in(tmp_path / "blind"))
    assert [trial.rounds for trial in expected] == [trial.rounds for trial in blind]


def test_a_trial_measures_the_mean_over_its_seeds(tmp_path: Path) -> None:
    trial = computed(tiny_plan(tmp_path, trials=1), storage_in(tmp_path))[0]
    one = [computed(tiny_plan(tmp_path, 1, seeds=(seed,)), storage_in(tmp_path))[0] for seed in (0, 1)]
    assert (one[0].value, one[1].value) == trial.values
    assert sum(trial.values) / 2 == trial.value == trial.rounds[-1]["accuracy"]
    assert one[0].local_steps + one[1].local_steps == trial.local_steps == 2 * 2 * 3  # seeds x clients x rounds


def test_pruning_ends_bad_trials_early_and_can_be_switched_off(tmp_path: Path) -> None:
    pruned = computed(tiny_plan(tmp_path, trials=12), storage_in(tmp_path))
    whole = computed(tiny_plan(tmp_path, trials=12, pruning=False), storage_in(tmp_path))
    assert "pruned" in {trial.state for trial in pruned}
    assert {"complete"} == {trial.state for trial in whole}
    assert all(len(trial.rounds) < 3 for trial in pruned if trial.state == "pruned")
    assert sum(trial.local_steps for trial in pruned) < sum(trial.local_steps for trial in whole)


def test_no_trial_is_begun_after_the_deadline(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=3)
    work = replace(tiny_work(plan, storage_in(tmp_path)), deadline=time.time() - 1)
    study = open_tiny(work)
    list(compute_tiny(work, study))
    assert () == trial_results(study, plan)


def test_with_equal_steps_fewer_epochs_have_more_rounds(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=6, budget="steps", space=(Axis(field="local_epochs", low=1, high=3),))
    trials = computed(replace(plan, pruning=False), storage_in(tmp_path))
    assert {1: 3, 2: 1, 3: 1} | {trial.params["local_epochs"]: len(trial.rounds) for trial in trials} == {
        1: 3,
        2: 1,
        3: 1,
    }


def test_choices_with_null_are_searched(tmp_path: Path) -> None:
    space = (Axis(field="batch_size", choices=(50, None, 5)),)
    trials = computed(tiny_plan(tmp_path, trials=8, space=space), storage_in(tmp_path))
    assert {50, None, 5} == {trial.params["batch_size"] for trial in trials}


GRID = (Axis(field="local_epochs", choices=(1, 2)), Axis(field="batch_size", choices=(50, None, 5)))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return tiny_plan(tmp_path_factory.mktemp("grid"), trials=6, space=GRID, seeds=(0,))


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> list[Params]:
    """The grid's trials, without interruption."""
    trials = computed(plan, storage_in(tmp_path_factory.mktemp("whole")))
    return [trial.params for trial in trials]


class TestGrid:
    """A space of few choices, each of which is tried once."""

    def test_each_point_is_tried_once_the_default_first(self, whole: list[Params]) -> None:
        assert whole[0] == {"local_epochs": 1, "batch_size": 50}
        assert 6 == len({tuple(params.items()) for params in whole})

    def test_an_interruption_or_a_death_before_its_choice_changes_no_trial(
        self, plan: Plan, whole: list[Params], tmp_path: Path
    ) -> None:
        computed(replace(plan, trials=2), storage_in(tmp_path))
        TestDeadProcesses.begin(open_tiny(tiny_work(plan, storage_in(tmp_path))))
        assert whole == [trial.params for trial in computed(plan, storage_in(tmp_path))]

    @pytest.mark.parametrize("seed", [0, 1])
    def test_of_trials_begun_at_once_each_has_its_place_which_the_seed_gives(
        self, plan: Plan, whole: list[Params], tmp_path: Path, seed: int
    ) -> None:
        study = open_tiny(tiny_work(replace(plan, sampler_seed=seed), storage_in(tmp_path)))
        begun = [study.ask() for _ in range(6)]
        found = {}
        for trial in reversed(begun):
            values = [trial.suggest_categorical(axis.field, axis.choices) for axis in GRID]
            found[trial.number] = dict(zip(("local_epochs", "batch_size"), values, strict=True))
        assert (whole == [found[number] for number in range(6)]) == (seed == 0)

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


class TestDeadProcesses:
    """A made study, in which nothing is computed."""

    @pytest.fixture
    def study(self, tmp_path: Path) -> optuna.Study:
        return open_tiny(tiny_work(tiny_plan(tmp_path), storage_in(tmp_path)))

    @staticmethod
    def begin(study: optuna.Study, pid: int = 1 << 22) -> optuna.Trial:
        """A trial that runs in a process that is not there."""
        trial = study.ask()
        claim = replace(Claim.of_this_process(), pid=pid)
        trial.set_user_attr(CLAIM, {"trial": trial.number, "name": claim.name, "text": claim.text()})
        return trial

    def test_the_trial_of_a_dead_process_is_queued_again_at_once(self, study: optuna.Study) -> None:
        self.begin(study)
        retry_dead(study)
        states = [trial.state for trial in study.trials]
        assert [TrialState.FAIL, TrialState.WAITING] == states
        assert 1 == len(slots(study.trials))

    def test_it_is_queued_once_however_often_one_looks(self, study: optuna.Study) -> None:
        self.begin(study)
        for _ in range(3):
            retry_dead(study)
        assert 2 == len(study.trials)

    def test_the_trial_of_a_live_process_is_left_alone(self, study: optuna.Study) -> None:
        self.begin(study, os.getpid())
        retry_dead(study)
        assert [TrialState.RUNNING] == [trial.state for trial in study.trials]

    def test_one_of_which_nobody_says_for_a_minute_whose_it_is_is_queued_again(
        self, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study.ask()
        unclaimed: dict[int, float] = {}
        retry_dead(study, unclaimed)
        assert [TrialState.RUNNING] == [trial.state for trial in study.trials]
        later = time.monotonic() + 61
        monkeypatch.setattr(search_module.time, "monotonic", lambda: later)
        retry_dead(study, unclaimed)
        assert [TrialState.FAIL, TrialState.WAITING] == [trial.state for trial in study.trials]

    def test_one_that_was_told_to_be_dead_but_not_queued_is_queued(self, study: optuna.Study) -> None:
        study.tell(self.begin(study), state=TrialState.FAIL)
        retry_dead(study)
        assert [TrialState.FAIL, TrialState.WAITING] == [trial.state for trial in study.trials]

    def test_one_that_died_between_its_result_and_its_end_is_tried_again(self, study: optuna.Study) -> None:
        self.begin(study).set_user_attr(RESULT, {"state": "complete"})
        retry_dead(study)
        assert 1 == sum(slot.is_waiting for slot in slots(study.trials))

    def test_after_eleven_deaths_it_has_failed(self, study: optuna.Study, tmp_path: Path) -> None:
        for _ in range(11):
            self.begin(study)
            retry_dead(study)
        (result,) = trial_results(study, tiny_plan(tmp_path))
        assert ("failed", "its process died 11 times") == (result.state, result.reason)

    def test_one_that_two_queued_again_is_computed_once(self, study: optuna.Study, tmp_path: Path) -> None:
        self.begin(study)
        retry_dead(study)
        search_module.retry()(study, study.trials[0])  # another process, at the same moment
        plan = tiny_plan(tmp_path, trials=2)
        list(compute_trials(study, plan, Validation(held_out_of(plan), torch.device("cpu")), None))
        ended = [trial for trial in study.trials if RESULT in trial.user_attrs]
        assert 2 == len(ended) == len(trial_results(study, plan))
        assert 1 == sum(SURPLUS in trial.user_attrs for trial in study.trials)


@pytest.mark.slow
def test_two_workers_end_with_the_trials_asked_for(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=7)
    trials = computed(plan, storage_in(tmp_path), num_workers=2)
    assert list(range(7)) == [trial.number for trial in trials]
    study = open_tiny(tiny_work(plan, storage_in(tmp_path)))
    assert 7 == sum(RESULT in trial.user_attrs for trial in study.trials)


def claimed_by(trial: optuna.trial.FrozenTrial) -> int:
    """The number of the process that computes this trial."""
    return Claim("", **json.loads(trial.user_attrs[CLAIM]["text"])).pid


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_trial_tried_again(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=6)
    work = tiny_work(plan, storage_in(tmp_path))
    study = open_tiny(work)
    killed: set[int] = set()
    for _ in compute_tiny(work, study, 2):
        running = [t for t in study.get_trials(states=(TrialState.RUNNING,)) if CLAIM in t.user_attrs]
        alive = {claimed_by(trial) for trial in running} - killed  # a trial runs on until somebody sees that it is dead
        if alive and len(killed) < 2:
            pid = alive.pop()
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    assert 2 == len(killed)
    assert list(range(6)) == [trial.number for trial in trial_results(study, plan)]


@pytest.mark.slow
def test_an_error_of_a_worker_that_a_user_can_mend_ends_the_study(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path)
    work = replace(tiny_work(plan, storage_in(tmp_path)), storage=f"sqlite:///{tmp_path}/no/such.db")
    (tmp_path / "no").write_text("a file where a folder should be")
    study = open_tiny(tiny_work(plan, storage_in(tmp_path)))
    with pytest.raises(compute_module.StoreError, match=r"storage sqlite:.*no/such.db"):
        list(compute_tiny(work, study, 2))


def history(*accuracies: float) -> list[dict[str, float]]:
    return [{"accuracy": accuracy} for accuracy in accuracies]


@pytest.mark.parametrize(
    ("accuracies", "rounds"),
    [
        ((0.5, 0.7, 0.9), 2.5),  # half-way between rounds 2 and 3
        ((0.8, 0.9), 1.0),  # in the first round
        ((0.6, 0.5, 0.8), 3.0),  # the best so far, 0.6, stands for round 2
        ((0.6, 0.5, 1.0), 2.5),
        ((0.5, 0.6), 3.2),  # not reached: one more than the rounds, and what is lacking
    ],
)
def test_rounds_to_target_are_interpolated_as_in_the_paper(accuracies: tuple[float, ...], rounds: float) -> None:
    assert pytest.approx(rounds) == objective_value(Objective.ROUNDS_TO_TARGET, 0.8, history(*accuracies))


def test_a_trial_ends_when_every_seed_has_reached_the_target(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=1, objective=Objective.ROUNDS_TO_TARGET, target=0.01)
    trial = computed(plan, storage_in(tmp_path))[0]
    assert ("complete", 1.0, 1) == (trial.state, trial.value, len(trial.rounds))


def test_a_seed_that_diverged_stays_as_it_is_and_its_loss_is_infinite(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, 1, objective=Objective.LOSS, space=(Axis(field="learning_rate", low=0.01, high=1e30),))
    plan = replace(plan, spec=plan.spec.model_copy(update={"learning_rate": 1e30}))
    trial = computed(plan, storage_in(tmp_path))[0]
    assert Verdict.DIVERGED is trial.verdict
    assert math.inf == trial.value == trial.rounds[-1]["loss"]


def test_a_seed_that_ended_early_counts_with_its_last_round() -> None:
    def rounds(*accuracies: float) -> SeedProgress:
        return SeedProgress(
            [dict.fromkeys(("accuracy", "balanced_accuracy", "loss", "train_loss"), a) for a in accuracies]
        )

    assert [0.4, 0.5] == pytest.approx([each["accuracy"] for each in mean_rounds([rounds(0.2), rounds(0.6, 0.8)])])


def test_the_study_of_another_storage_is_refused_in_one_line(tmp_path: Path) -> None:
    work = tiny_work(tiny_plan(tmp_path), storage_in(tmp_path))
    study = open_tiny(work)
    study.set_user_attr("fedbench.study", "something else")
    with pytest.raises(compute_module.StoreError, match="that fedbench did not make"):
        open_tiny(work)


@pytest.mark.slow
def test_a_command_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=4)
    whole = computed(plan, storage_in(tmp_path))
    (tmp_path / "cut").mkdir()
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from tiny_study import *\n"
        "computed(tiny_plan(Path(sys.argv[2]), 4), storage_in(Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "cut")]
    study = None
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(0.05)
            if (tmp_path / "cut" / "optuna.db").exists() and study is None:
                study = open_tiny(tiny_work(plan, storage_in(tmp_path / "cut")))
            if study and any(CLAIM in t.user_attrs for t in study.get_trials(states=(TrialState.RUNNING,))):
                process.kill()
    again = computed(plan, storage_in(tmp_path / "cut"))
    assert [(trial.params, trial.value) for trial in whole] == [(trial.params, trial.value) for trial in again]


def test_a_storage_that_is_gone_at_the_end_of_a_trial_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna raises an error of its own there, which hides the storage's."""

    def last(*arguments: object) -> object:
        yield from train_and_validate(*arguments)  # type: ignore[arg-type]
        with closing(sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)) as connection:
            connection.execute("DROP TABLE trial_values")

    monkeypatch.setattr(search_module, "train_and_validate", last)
    with pytest.raises(StoreError, match=r"storage sqlite:.* failed \(.*no such table"):
        computed(tiny_plan(tmp_path, trials=2), storage_in(tmp_path))
