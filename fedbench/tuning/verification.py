"""The answer of a study: the best and the default are retrained on all training data and tested over fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.measures import DEAD, Verdict, judge_cell
from fedbench.runs.identity import fingerprint
from fedbench.stats import Spread, difference_of, spread
from fedbench.suites.schema import Cell, CellSpec, RunSpec, Scenario, Suite
from fedbench.suites.tune import Objective
from fedbench.tracking.mlflow.reading import infinite, is_finished, read_history, search_runs
from fedbench.tuning.objective import can_be_best, objective_value
from fedbench.tuning.plan import Plan
from fedbench.tuning.results import SUFFIX, Answer, Candidate, TrialResult, TuningResult

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from fedbench.runs.data import DataSource
    from fedbench.runs.suite_run import Outcome


def tuning_suite(plan: Plan, trials: Sequence[TrialResult] = (), fresh_seeds: tuple[int, ...] = ()) -> Suite:
    """The runs that test `trials` as a suite of its own: one cell each, every fresh seed."""
    specs = dict.fromkeys(plan.spec_of(trial.params) for trial in trials)
    name = f"{plan.suite}{SUFFIX}"
    axes = tuple(axis.field for axis in plan.space)
    cells = tuple(Cell(suite=name, scenario=plan.scenario, spec=spec, axes=axes, seeds=fresh_seeds) for spec in specs)
    return Suite(
        name=name,
        question=f"Which settings are best for the scenarios of {plan.suite}?",
        seeds=fresh_seeds,
        scenarios=(Scenario(name=plan.scenario, cells=cells),),
        path=Path(),
    )


def best_trial(plan: Plan, trials: Sequence[TrialResult]) -> TrialResult | None:
    """The trial with the best objective of those that can be an answer, of equals the first."""
    sound = [(trial.value, trial) for trial in trials if can_be_best(plan.objective, trial) and trial.value is not None]
    sign = 1 if plan.objective.is_minimised else -1
    return min(sound, key=lambda each: sign * each[0], default=(None, None))[1]


@dataclass(frozen=True)
class Verification:
    """Reads the tests of a study's trials from the experiment `experiment_id` of `tuning_suite`."""

    plan: Plan
    data: DataSource
    client: MlflowClient
    experiment_id: str

    def candidate(self, trial: TrialResult, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> Candidate:
        """A trial's configuration with the results of its runs on the fresh `seeds`."""
        spec = self.plan.spec_of(trial.params)
        results = {each.run.seed: each.result for each in outcomes if each.run.spec == spec and each.result}
        ordered = [results[seed] for seed in seeds if seed in results]
        verdict, reason = judge_cell([each.verdict for each in ordered], [each.reason for each in ordered])
        runs = self._runs(spec, seeds)
        complete = len(runs) == len(seeds)
        return Candidate(
            trial=trial.number,
            params=trial.params,
            spec=spec,
            validation=spread(trial.values),
            test=spread([self._tested(runs[seed]) for seed in seeds]) if complete else None,
            verdict=verdict,
            reason=reason,
            local_steps=spec.local_steps(),
            run_ids=tuple(runs[seed].info.run_id for seed in seeds if seed in runs),
        )

    def _runs(self, spec: CellSpec, seeds: Sequence[int]) -> Mapping[int, Run]:
        """The finished runs in the store of each seed."""
        digest = self.data.digest(spec)
        run = RunSpec(suite="", scenario=self.plan.scenario, cell="", spec=spec, seed=0)
        identities = {
            fingerprint(run.model_copy(update={"seed": seed}), digest, self.data.device): seed for seed in seeds
        }
        found = search_runs(self.client, self.experiment_id, "tags.`fedbench.kind` = 'run'")
        by_identity = {run.data.tags["fedbench.fingerprint"]: run for run in found if is_finished(run)}
        return {seed: by_identity[identity] for identity, seed in identities.items() if identity in by_identity}

    def _tested(self, run: Run) -> float:
        """The objective of a finished run on the test set."""
        last = {name: infinite(value) for name, value in run.data.metrics.items()}
        if self.plan.objective is not Objective.ROUNDS_TO_TARGET:
            return objective_value(self.plan, [last])
        before = sorted(read_history(self.client, run.info.run_id, "accuracy").items())[:-1]
        return objective_value(self.plan, [*({"accuracy": value} for _, value in before), last])


def answer(
    plan: Plan, trials: Sequence[TrialResult], best: Candidate | None, default: Candidate | None, seconds: float
) -> TuningResult:
    """What can be said of the best compared with the default, and whether the best is dead on fresh seeds."""
    verdict, reason, gain = _compared(plan, trials, best, default)
    if best and (lost := dead(best)):
        reason += f"; but the {'best' if best.trial else 'default'} {lost}"
    return TuningResult(plan, tuple(trials), best, default, gain, verdict, reason, seconds)


def dead(candidate: Candidate) -> str | None:
    """``collapsed in 1 of 5 fresh seeds``; None if it did not, nor diverged."""
    if candidate.verdict not in DEAD or candidate.reason is None:
        return None
    return f"{candidate.verdict} in {candidate.reason.partition(' seeds:')[0]} fresh seeds"


def _compared(
    plan: Plan, trials: Sequence[TrialResult], best: Candidate | None, default: Candidate | None
) -> tuple[Answer, str, tuple[float, tuple[float, float]] | None]:
    """The answer, its reason, and the gain with its interval, if there is one."""
    if best is None:
        return Answer.NONE, _no_answer(plan, trials), None
    if best.trial == 0:
        others = len(trials) - 1
        reason = f"the default was not beaten by any of the other {others} trials" if others else "no other has ended"
        missed = "; no seed of it reached the target" if _misses(plan, best.validation) else ""
        return Answer.SAME, reason + missed, None
    if default is None or default.test is None or best.test is None:
        which = "default" if default is None or default.test is None else "best"
        return Answer.NONE, f"the {which} configuration could not be tested", None
    if _misses(plan, default.test) and _misses(plan, best.test):
        return Answer.UNCLEAR, "no seed of either reached the target on the test set: lower it, or raise rounds", None
    sign = -1 if plan.objective.is_minimised else 1
    first, second = (dict(enumerate(sign * value for value in each.values)) for each in (default.test, best.test))
    difference = difference_of(first, second)
    if not math.isfinite(difference.mean):
        return *_without_gain(first.values(), second.values()), None
    if (interval := difference.interval) is None:
        return Answer.UNCLEAR, "a single fresh seed gives no interval of the gain", None
    verdict = Answer.BETTER if interval[0] > 0 else Answer.WORSE if interval[1] < 0 else Answer.UNCLEAR
    return verdict, _SENTENCES[verdict], (difference.mean, interval)


def _misses(plan: Plan, over: Spread) -> bool:
    """Whether no seed reached the target, if there is one."""
    return plan.target is not None and min(over.values) > plan.most_rounds


def _without_gain(default: Collection[float], best: Collection[float]) -> tuple[Answer, str]:
    """The answer where seeds that diverged have no finite objective."""
    lost, left = (sum(not math.isfinite(value) for value in values) for values in (default, best))
    counts = f"the default diverged on {lost} of {len(default)} fresh seeds, the best on {left}"
    if lost == len(default) > 1 and left == 0:
        return Answer.BETTER, counts
    if left == len(best) > 1 and lost == 0:
        return Answer.WORSE, counts
    return Answer.UNCLEAR, f"{counts}, so the gain is not finite"


_SENTENCES = {
    Answer.BETTER: "on the test set, over seeds that no trial has seen, the best is better than the default",
    Answer.UNCLEAR: "the interval of the gain includes zero",
    Answer.WORSE: "on the test set the best of the trials is worse than the default",
}


def _no_answer(plan: Plan, trials: Sequence[TrialResult]) -> str:
    """Why no trial gave an answer."""
    counts = {
        "pruned": sum(trial.state == "pruned" for trial in trials),
        "failed": sum(trial.state == "failed" for trial in trials),
        **{
            str(verdict): sum(trial.state == "complete" and trial.verdict is verdict for trial in trials)
            for verdict in (Verdict.BELOW_MAJORITY, Verdict.COLLAPSED, Verdict.DIVERGED)
        },
    }
    if not trials:
        return "no trial has ended: give the search more time"
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    errors = {trial.reason for trial in trials if trial.state == "failed"}
    first = f" ({sorted(map(str, errors))[0]})" if errors else ""
    fields = " or ".join(axis.field for axis in plan.space)
    return f"of {len(trials)} trials {', '.join(parts)}{first}: widen the space of {fields}, or raise rounds or data"
