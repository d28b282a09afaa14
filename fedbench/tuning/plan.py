"""What a study searches, its objective and its budget. Imports neither torch, mlflow nor optuna."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

from fedbench.suites.checks import check_choice
from fedbench.suites.files import errors_in
from fedbench.suites.schema import CellSpec, Suite
from fedbench.suites.tune import Axis, Objective, TuneSpec, with_options
from fedbench.tuning.plan_choices import check_sampler_seed, choose_cell, fresh_seeds_after
from fedbench.tuning.plan_space import (
    Params,
    default_space,
    most_rounds,
    require_default_inside,
    require_round_fits,
)
from fedbench.util.errors import SuiteError

__all__ = ["Params", "Plan", "identity", "make_plan", "require_enough", "require_skilful_target"]


VALUES = 2  # raise it with every change of what a trial's value is
NUM_SEEDS = 3  # of the suite's, with which each trial is computed
FEW_POINTS = 10  # of a grid; Optuna's sampler draws as many trials at random first


@dataclass(frozen=True)
class Plan:
    """Everything that determines a study's trials, and how many there will be.

    Attributes
    ----------
    suite, scenario, cell
        Names: the suite's, the scenario's, the label of the tuned cell.
    spec
        The default configuration: the tuned cell as the suite file has it, but without requirements and interpolation.
    space
        The searched fields, in the order of `CellSpec`.
    objective, target, budget, seeds, fresh_seeds, validation, pruning
        See `fedbench.suites.tune.TuneSpec`; only the target may still be None, and `budget` is ``none`` where
        the rounds are searched.
    sampler_seed
        Of Optuna's sampler.
    trials
        At most as many as a grid has points.
    has_own_fresh_seeds
        Whether the suite file names the fresh seeds: then each answer is tested on the same. Else `fresh_seeds` are
        those of the first (see `fedbench.tuning.answers`).
    notes
        Sentences on which of several cells was chosen, and why there are fewer trials than were asked for.
    """

    suite: str
    scenario: str
    cell: str
    spec: CellSpec
    space: tuple[Axis, ...]
    objective: Objective
    target: float | None
    budget: str
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    validation: float
    pruning: bool
    sampler_seed: int
    trials: int
    has_own_fresh_seeds: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def most_rounds(self) -> int:
        """The most rounds that a trial may have: they differ with budget `steps`, and where rounds are searched."""
        return most_rounds(self.space, self.spec, self.budget)

    @property
    def grid(self) -> tuple[Params, ...]:
        """All points of a space of choices, if few enough that each can be tried; else empty."""
        most = max(self.trials, FEW_POINTS)
        if math.prod(len(axis.choices) or math.inf for axis in self.space) > most:
            return ()
        fields = [axis.field for axis in self.space]
        return tuple(dict(zip(fields, values, strict=True)) for values in product(*(a.choices for a in self.space)))

    @property
    def default(self) -> Params:
        """The searched fields as the suite file has them."""
        return {axis.field: self.spec.get(axis.field) for axis in self.space}

    def spec_of(self, params: Params) -> CellSpec:
        """The default configuration with `params`, and as many rounds as the budget allows.

        With budget `steps` that is as many whole rounds as do not take more local steps than the default configuration
        does on all of the training data.
        """
        spec = self.spec.replace(params)
        if self.budget != "steps":
            return spec
        rounds = self.spec.local_steps() // spec.local_steps(rounds=1)
        return spec.replace({"rounds": max(rounds, 1)})

    def searched_spec(self, params: Params, num_training: int) -> CellSpec:
        """`spec_of` on the `num_training` examples that remain without the validation split.

        If the suite file gives no `examples_per_client`, the clients share these, as they share all of them later.
        """
        spec = self.spec_of(params)
        partition = spec.part("partition")
        if spec.examples_per_client is not None or partition.has_own_sizes:
            return spec
        parts = partition.parts_per_client
        return spec.replace({"examples_per_client": num_training // (spec.num_clients * parts) * parts})


def make_plan(suite: Suite, *, sampler_seed: int = 0, **options: object) -> Plan:
    """Make a plan from a suite's key `tune` and the command line's options, which override it.

    Parameters
    ----------
    suite
        As loaded, with the command line's ``--set`` applied to its cells.
    sampler_seed
        Of Optuna's sampler.
    options
        Those of `fedbench tune` with the names of `TuneSpec`'s fields; None: what the file says.

    Raises
    ------
    SuiteError
        One line that names the file, the place, the value and what to do.
    """
    scenarios = {scenario.name: scenario for scenario in suite.scenarios}
    with errors_in(suite.path):
        tune = with_options(suite.tune, options, scenarios, suite.seeds[:NUM_SEEDS])
        name = tune.scenario or suite.scenarios[0].name
        scenario = scenarios[check_choice(name, "tune: scenario", scenarios, "scenario")]
        cell, note = choose_cell(scenario, tune, suite.path.parent)
        budget = tune.budget or ("none" if tune.searches_rounds else "rounds")
        seeds = tune.seeds or ()
        plan = Plan(
            suite=suite.name,
            scenario=scenario.name,
            cell=cell.label,
            spec=cell.spec,
            space=_space(tune, cell.spec, budget),
            objective=tune.objective,
            target=tune.target,
            budget=budget,
            seeds=seeds,
            fresh_seeds=tune.fresh_seeds or fresh_seeds_after((*seeds, *suite.seeds)),
            has_own_fresh_seeds=tune.fresh_seeds is not None,
            validation=tune.validation,
            pruning=tune.pruning,
            sampler_seed=check_sampler_seed(sampler_seed),
            trials=tune.trials,
            notes=() if note is None else (note,),
        )
        if 0 < (points := len(plan.grid)) < plan.trials:
            fewer = f"{points} trials in place of {plan.trials}: one for each point of the space"
            plan = replace(plan, trials=points, notes=(*plan.notes, fewer))
        require_enough(plan, most_training(plan))
    return plan


def most_training(plan: Plan) -> int:
    """An upper bound on the training examples that remain without the validation split, before the data is loaded.

    The held-out share of each class is rounded, by less than one example.
    """
    info = plan.spec.part("dataset").INFO
    return math.floor((1 - plan.validation) * plan.spec.available) + int(info.num_classes)


def require_enough(plan: Plan, num_training: int) -> None:
    """Refuse a plan whose clients need more than the `num_training` examples that are not held out for validation."""
    spec = plan.spec
    remain = f"{num_training} of {spec.available} training examples remain without the validation split"
    if spec.examples_per_client is None:
        if spec.num_clients > num_training:
            raise SuiteError(
                f"scenario {plan.scenario}: {spec.num_clients} clients need an example each, but {remain}; "
                "lower num_clients or tune: validation"
            )
        return
    if spec.examples_needed > num_training:
        overlaps = spec.is_overlapping
        product = "" if overlaps else f"{spec.num_clients} x {spec.examples_per_client} = "
        fields = "examples_per_client" if overlaps else "num_clients, examples_per_client"
        raise SuiteError(
            f"scenario {plan.scenario}: needs {product}{spec.examples_needed} training examples, but {remain}; "
            f"lower {fields} or tune: validation"
        )


def require_skilful_target(plan: Plan, class_counts: Sequence[int]) -> None:
    """Refuse a target that takes no skill; `class_counts` are the numbers of validation examples per class."""
    majority = max(class_counts) / sum(class_counts)
    if plan.target is not None and plan.target <= majority:
        raise SuiteError(
            f"target {plan.target:.1%}: always predicting the largest class reaches {majority:.1%}; choose a higher one"
        )


def identity(plan: Plan, dataset_digest: str, device: str, revision: int) -> str:
    """The identity of a study's trials: SHA-256 over everything that determines them.

    The number of trials, the fresh seeds and the names of the suite and the cell do not: a study can be given more
    trials. `dataset_digest` is that of the training data and the validation split, and `revision` is
    `fedbench.runs.identity.ALGORITHM_REVISION`.
    """
    content = {
        "scenario": plan.scenario,
        "spec": plan.spec.identity,
        "space": [axis.model_dump(mode="json") for axis in plan.space],
        "objective": plan.objective,
        "target": plan.target,
        "budget": plan.budget,
        "seeds": plan.seeds,
        "validation": plan.validation,
        "pruning": plan.pruning,
        "sampler_seed": plan.sampler_seed,
        "data": dataset_digest,
        "device": device,
        "revision": revision,
    }
    if plan.objective is not Objective.LOSS:  # whose values are those of the first version
        content["values"] = VALUES
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _space(tune: TuneSpec, spec: CellSpec, budget: str) -> tuple[Axis, ...]:
    space = default_space(spec, budget) if tune.space is None else tune.space
    require_default_inside(space, spec)
    if budget == "steps":
        require_round_fits(space, spec)
    return space
