"""What a person, another tool or another version wrote into Optuna's storage: it does not count, and stays."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_study import made_plan
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from tiny_study import computed, storage_in, study_of, tiny_plan, tiny_work

from fedbench.tuning.answers import fresh_seeds_of, looks_of
from fedbench.tuning.plan import Plan
from fedbench.tuning.search import trial_results
from fedbench.tuning.slots import CHOSEN, RESULT
from fedbench.util.errors import StoreError

PLAN = made_plan()
ROUND = {"accuracy": 0.5, "balanced_accuracy": 0.5, "loss": None, "train_loss": 1.0}
WHOLE: dict[str, Any] = {
    "state": "complete",
    "rounds": [ROUND],
    "values": [0.5, 0.5, 0.6],
    "verdict": "ok",
    "reason": None,
    "local_steps": 10,
    "seconds": 1.5,
}
DISTRIBUTIONS = {
    "local_epochs": IntDistribution(1, 20, log=True),
    "learning_rate": FloatDistribution(1e-3, 1, log=True),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


def study_with(result: object, attributes: dict[str, Any] | None = None, **system: object) -> optuna.Study:
    """A study in memory with one trial."""
    trial = create_trial(
        value=0.5,
        params={"local_epochs": 2, "learning_rate": 0.1},
        distributions=DISTRIBUTIONS,
        user_attrs={CHOSEN: True, RESULT: result},
        system_attrs=system,
    )
    study = optuna.create_study(direction="maximize")
    study.add_trial(trial)
    for key, value in (attributes or {}).items():
        study.set_user_attr(key, value)
    return study


def test_a_trial_as_it_was_written_counts() -> None:
    (trial,) = trial_results(study_with(WHOLE), PLAN)
    assert ("complete", (0.5, 0.5, 0.6), float("inf")) == (trial.state, trial.values, trial.rounds[0]["loss"])


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ([], "fedbench.result is []"),
        ("complete", "fedbench.result is 'complete'"),
        (WHOLE | {"state": []}, "fedbench.result.state is []"),
        (WHOLE | {"rounds": [{}]}, "fedbench.result.rounds.0.accuracy is {}"),
        (WHOLE | {"rounds": []}, "fedbench.result has no value for each seed"),
        (WHOLE | {"values": [0.5]}, "fedbench.result has no value for each seed"),
        (WHOLE | {"values": [0.5, "x", 0.5]}, "fedbench.result.values.1 is 'x'"),
        (WHOLE | {"verdict": "great"}, "fedbench.result.verdict is 'great'"),
        (WHOLE | {"seconds": float("nan")}, "fedbench.result.seconds is nan"),
        (WHOLE | {"local_steps": 10**400}, "fedbench.result.local_steps is 100000000"),
    ],
)
def test_a_result_that_is_none_does_not_count_and_is_named_once(
    result: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = study_with(result)
    assert () == trial_results(study, PLAN) == trial_results(study, PLAN)
    (line,) = (each for each in caplog.messages if each.startswith("fedbench: "))
    assert f"trial 0 of study '{study.study_name}' does not count: its attribute {why}" in line


@given(st.sampled_from([*WHOLE, RESULT]), JSON, JSON)
def test_whatever_a_result_holds_it_counts_or_does_not(field: str, value: object, history: object) -> None:
    result = value if field == RESULT else WHOLE | {field: value}
    attributes = {"fedbench.tested.0.abc": value, "fedbench.tested.1.abc": {"trial": 1, "fresh_seeds": value}}
    study = study_with(result, attributes, retry_history=history)
    for trial in trial_results(study, PLAN):
        assert "complete" == trial.state or trial.reason is None or isinstance(trial.reason, str)
        json.dumps([trial.values, trial.local_steps, trial.seconds])
    assert all(seed >= 0 for each in looks_of(study) for seed in each.fresh_seeds)
    assert 3 == len(fresh_seeds_of(study, PLAN, 0))


# In a storage, by whoever has access to it


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, str, Path]:
    """A plan, and the storage of its two trials."""
    folder = tmp_path_factory.mktemp("stored")
    plan = tiny_plan(folder, trials=2)
    computed(plan, storage_in(folder))
    return plan, storage_in(folder), folder / "optuna.db"


@pytest.fixture
def change(stored: tuple[Plan, str, Path]) -> Iterator[Any]:
    """Makes changes by SQL, which are taken back."""
    path = stored[2]
    with closing(sqlite3.connect(path)) as store, closing(sqlite3.connect(":memory:")) as before:
        store.backup(before)

        def execute(statement: str, *values: object) -> None:
            with store:
                store.execute(statement, values)

        yield execute
        before.backup(store)


def test_a_trial_that_does_not_count_is_computed_again_and_stays(stored: tuple[Plan, str, Path], change: Any) -> None:
    plan, storage, _ = stored
    before = trial_results(study_of(tiny_work(plan, storage)), plan)
    change("UPDATE trial_user_attributes SET value_json = '[1]' WHERE trial_id = 2 AND key = ?", RESULT)
    after = computed(plan, storage)
    assert [each.values for each in before] == [each.values for each in after]
    trials = study_of(tiny_work(plan, storage)).trials
    assert [TrialState.COMPLETE] * 3 == [each.state for each in trials]
    assert [1] == trials[1].user_attrs[RESULT]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trial_params SET param_value = -5 WHERE trial_id = 2",
        "DELETE FROM trial_params WHERE trial_id = 2",
        "UPDATE trials SET datetime_complete = '9999-12-31 23:59:59.999999' WHERE trial_id = 2",
    ],
)
def test_a_trial_of_other_parameters_or_times_does_not_count(
    stored: tuple[Plan, str, Path], change: Any, statement: str
) -> None:
    plan, storage, _ = stored
    change(statement)
    assert [0] == [each.number for each in trial_results(study_of(tiny_work(plan, storage)), plan)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trial_user_attributes SET value_json = replace(hex(zeroblob(5000)), '0', '9') WHERE trial_id = 2",
        "UPDATE trial_user_attributes SET value_json = replace(hex(zeroblob(50000)), '0', '[') WHERE trial_id = 2",
        "UPDATE trial_params SET distribution_json = '[]' WHERE trial_id = 2",
        "UPDATE trials SET datetime_start = 'noon' WHERE trial_id = 2",
        "UPDATE trial_values SET value = NULL WHERE trial_id = 2",
        "DELETE FROM study_directions",
        "UPDATE study_user_attributes SET value_json = '\"../../outside\"'",
        "UPDATE study_user_attributes SET value_json = substr(value_json, 1, 66) || '../../outside\"'",
    ],
    ids=lambda text: text[:70],
)
def test_a_study_that_cannot_be_read_is_one_line(stored: tuple[Plan, str, Path], change: Any, statement: str) -> None:
    plan, storage, _ = stored
    change(statement)
    with pytest.raises(StoreError, match=r"has a study '.*' that (Optuna cannot read|fedbench did not make).*: delete"):
        study_of(tiny_work(plan, storage))
