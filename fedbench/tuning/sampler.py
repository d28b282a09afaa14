"""Optuna's TPE sampler, whose chance depends on the study's seed and the trial's place in the study alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from fedbench.tuning.slots import slot_of


class SlotSampler(BaseSampler):
    """The tree-structured Parzen estimator of Optuna, seeded anew for each trial.

    So a study that was interrupted goes on with the trials that it would have had: what was drawn before does not
    count, nor how often a trial had to be begun.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._tpe = TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed for this trial."""
        slot = slot_of(study.get_trials(deepcopy=False), trial.number)
        seed = np.random.SeedSequence(self.seed, spawn_key=(slot,)).generate_state(1)[0]
        self._tpe = TPESampler(seed=int(seed))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the TPE sampler does; likewise below."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `infer_relative_search_space`."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `infer_relative_search_space`."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """See `infer_relative_search_space`."""
        self._tpe.after_trial(study, trial, state, values)
