"""What a trial tries. Chance depends on the study's seed and the trial's place in the study alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from fedbench.tuning.plan import Plan
from fedbench.tuning.slots import slot_of, slots


class SlotSampler(BaseSampler):
    """The tree-structured Parzen estimator of Optuna, seeded anew for each trial.

    So a study that was interrupted goes on with the trials that it would have had: what was drawn before does not
    count, nor how often a trial had to be begun. The points of a small grid are tried one after the other instead.
    """

    def __init__(self, plan: Plan) -> None:
        self.seed = plan.sampler_seed
        self._tpe = TPESampler(seed=self.seed)
        self._grid = {axis.field: CategoricalDistribution(axis.choices) for axis in plan.space} if plan.grid else {}
        others = [point for point in plan.grid if point != plan.default]
        order = np.random.default_rng(self.seed).permutation(len(others))
        self._points = [plan.default, *(others[i] for i in order)]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed for this trial."""
        slot = slot_of(study.get_trials(deepcopy=False), trial.number)
        seed = np.random.SeedSequence(self.seed, spawn_key=(slot,)).generate_state(1)[0]
        self._tpe = TPESampler(seed=int(seed))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the TPE sampler does, unless there is a grid; likewise below."""
        return dict(self._grid) or self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `infer_relative_search_space`."""
        return self._next_point(study, trial) if self._grid else self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `infer_relative_search_space`."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """See `infer_relative_search_space`."""
        self._tpe.after_trial(study, trial, state, values)

    def _next_point(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        """The first point that no earlier slot has, or will have; none if all are tried."""
        trials = study.get_trials(deepcopy=False)
        before = slots(trials)[: slot_of(trials, trial.number)]
        earlier = [next((each.params for each in slot.trials if each.params), {}) for slot in before]
        left = [point for point in self._points if point not in earlier]
        undecided = earlier.count({})  # begun at the same time by other processes, which take the first of them
        return dict(left[undecided]) if undecided < len(left) else {}
