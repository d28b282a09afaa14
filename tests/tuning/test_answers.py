"""Each new best is tested on fresh seeds of its own, the same for every command, and the study counts its answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from made_study import made_plan, made_result, without_answer
from tiny_study import storage_in, study_of, tiny_plan, tiny_work

from fedbench.tuning.answers import Look, fresh_seeds_of, looks_of, with_answers
from fedbench.tuning.plan import Plan
from fedbench.tuning.results import Answer, TuningResult

PLAN = made_plan(fresh_seeds=(5, 6, 7))
OWN = replace(PLAN, has_own_fresh_seeds=True)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


def answered(study: optuna.Study, best: int, plan: Plan = PLAN, answer: Answer = Answer.BETTER) -> TuningResult:
    """What a command says that finds a best, as `fedbench tune` does."""
    found = made_result(plan)
    assert found.best is not None
    seeds = fresh_seeds_of(study, plan, best)
    return with_answers(
        study, replace(found, best=replace(found.best, trial=best), fresh_seeds=seeds, answer=answer, answers=0)
    )


def test_each_new_best_has_the_next_seeds_and_the_same_best_keeps_its_own(study: optuna.Study) -> None:
    found = [answered(study, best) for best in (3, 3, 9, 3, 9, 0)]
    assert [(5, 6, 7), (5, 6, 7), (8, 9, 10), (5, 6, 7), (8, 9, 10), (11, 12, 13)] == [
        each.fresh_seeds for each in found
    ]
    assert [1, 1, 2, 2, 2, 3] == [each.answers for each in found]
    assert not any(each.fresh_seeds_reused for each in found)


def test_an_interrupted_test_resumes_on_its_seeds_and_has_not_answered_yet(study: optuna.Study) -> None:
    assert (5, 6, 7) == fresh_seeds_of(study, PLAN, 3)
    assert [Look(3, (5, 6, 7), None)] == looks_of(study)
    assert (8, 9, 10) == fresh_seeds_of(study, PLAN, 4)  # a better one was found before it was resumed
    assert ((8, 9, 10), 1) == ((found := answered(study, 4)).fresh_seeds, found.answers)
    assert ((5, 6, 7), 2) == ((found := answered(study, 3)).fresh_seeds, found.answers)


def test_what_could_not_be_tested_has_not_answered(study: optuna.Study) -> None:
    assert 0 == answered(study, 3, answer=Answer.NONE).answers
    assert 1 == answered(study, 3).answers
    assert 1 == with_answers(study, without_answer()).answers  # of earlier ones


def test_seeds_of_the_suite_file_are_the_same_each_time_which_is_said(study: optuna.Study) -> None:
    found = [answered(study, best, OWN) for best in (3, 3, 9)]
    assert [(5, 6, 7)] * 3 == [each.fresh_seeds for each in found]
    assert [(1, False), (1, False), (2, True)] == [(each.answers, each.fresh_seeds_reused) for each in found]
    other = answered(study, 9, replace(OWN, fresh_seeds=(20, 21)))
    assert (3, False) == (other.answers, other.fresh_seeds_reused)  # the same best on other seeds is another look


def test_without_them_the_next_are_none_that_the_file_had(study: optuna.Study) -> None:
    answered(study, 3, replace(OWN, fresh_seeds=(7, 8)))
    found = answered(study, 9)
    assert ((11, 12, 13), False) == (found.fresh_seeds, found.fresh_seeds_reused)


def test_all_commands_read_it_from_the_storage(tmp_path: Path) -> None:
    work = tiny_work(replace(tiny_plan(tmp_path), has_own_fresh_seeds=False), storage_in(tmp_path))
    seeds = [fresh_seeds_of(study_of(work), work.plan, best) for best in (2, 1, 2, 1)]
    assert [(10, 11, 12), (13, 14, 15)] * 2 == seeds
