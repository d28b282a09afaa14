"""On which fresh seeds a study is tested, and how often the test set has answered for it: both are in Optuna's study.

Each new best is tested on seeds of its own, as an earlier answer may have decided to search on. A best that was
tested before keeps its seeds: a command that finds nothing new gives the same answer, and an interrupted test resumes.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from fedbench.tuning.door import TESTED, Look, looks_of
from fedbench.tuning.results import Answer

if TYPE_CHECKING:
    import optuna

    from fedbench.tuning.plan import Plan
    from fedbench.tuning.results import TuningResult


def fresh_seeds_of(study: optuna.Study, plan: Plan, best: int) -> tuple[int, ...]:
    """The seeds on which trial `best` is tested: the plan's, or the next as many that no other test of the study has.

    They are recorded at once, so that all commands agree on them. The caller has its `turn`.
    """
    looks = looks_of(study)
    seeds = plan.fresh_seeds
    if not plan.has_own_fresh_seeds:
        if earlier := sorted(each.fresh_seeds for each in looks if each.trial == best):
            return earlier[0]
        used = {seed for each in looks for seed in each.fresh_seeds}
        while used & set(seeds):
            seeds = tuple(seed + len(seeds) for seed in seeds)
    if not any((each.trial, each.fresh_seeds) == (best, seeds) for each in looks):
        record(study, Look(best, seeds))
    return seeds


def with_answers(study: optuna.Study, result: TuningResult) -> TuningResult:
    """A result whose answer is recorded, and which says how many the study has had."""
    if result.best and result.best.test and result.answer is not Answer.NONE:
        record(study, Look(result.best.trial, result.fresh_seeds, str(result.answer)))
    answered = [each for each in looks_of(study) if each.answer]
    this = (result.best.trial, result.fresh_seeds) if result.best else None
    others = {seed for each in answered if (each.trial, each.fresh_seeds) != this for seed in each.fresh_seeds}
    return replace(result, answers=len(answered), fresh_seeds_reused=not others.isdisjoint(result.fresh_seeds))


def record(study: optuna.Study, look: Look) -> None:
    """Write a look into the study."""
    seeds = hashlib.sha256(repr(look.fresh_seeds).encode()).hexdigest()[:8]
    study.set_user_attr(f"{TESTED}{look.trial}.{seeds}", asdict(look))
