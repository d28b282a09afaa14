"""A study and its trials as MLflow's tags, parameters and metrics, as JSON and as CSV. Pure functions."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedbench.measures import Verdict
from fedbench.stats import spread
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.door import param_texts

if TYPE_CHECKING:
    from fedbench.suites.tune import Axis
    from fedbench.tuning.plan import Params, Plan
    from fedbench.tuning.results import Candidate, TrialResult, TuningResult

STUDY = "fedbench.study"  # the tag with the study's identity, of its own run and of its trials'
TRIAL = "fedbench.trial"
NESTED = "\n\nIts trials are nested below it. `fedbench report` shows the results."


def params_text(params: Params) -> str:
    """Searched values as text, such as ``learning_rate=0.12 local_epochs=9``; three digits of a fraction."""
    return " ".join(f"{field}={_short(value)}" for field, value in params.items())


def _short(value: float | None) -> str:
    if value is None:
        return "null"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def axis_text(axis: Axis) -> str:
    """A field's search space: ``0.001..1.0 log``, or ``10, 50, null``."""
    if axis.choices:
        return ", ".join("null" if choice is None else str(choice) for choice in axis.choices)
    return f"{axis.low}..{axis.high}{' log' if axis.log else ''}"


def _common_tags(plan: Plan, identity: str) -> dict[str, str]:
    return {
        "fedbench.schema": str(SCHEMA_VERSION),
        STUDY: identity,
        "fedbench.suite": plan.suite,
        "fedbench.scenario": plan.scenario,
        "fedbench.cell": plan.cell,
    }


def study_tags(plan: Plan, identity: str) -> dict[str, str]:
    """The first tags of a study's run."""
    fields = " and ".join(axis.field for axis in plan.space)
    about = f"A search of {fields} for {plan.cell}, by {plan.objective} on a validation split.{NESTED}"
    return _common_tags(plan, identity) | {"fedbench.kind": "study", "mlflow.note.content": about}


def study_params(plan: Plan) -> dict[str, str]:
    """A study's parameters: what its identity is made of, since MLflow lets no parameter change."""
    return {
        "scenario": plan.scenario,
        "objective": str(plan.objective),
        **({} if plan.target is None else {"target": str(plan.target)}),
        "budget": plan.budget,
        "seeds": ",".join(map(str, plan.seeds)),
        "validation": str(plan.validation),
        "pruning": str(plan.pruning),
        "sampler_seed": str(plan.sampler_seed),
        **{f"space/{axis.field}": axis_text(axis) for axis in plan.space},
    }


def wanted_tags(plan: Plan) -> dict[str, str]:
    """The tags that each command may change."""
    return {"fedbench.cell": plan.cell, "fedbench.trials": str(plan.trials)}


def answer_tags(result: TuningResult) -> dict[str, str]:
    """The tags of a finished study."""
    lines = [f"**{result.answer}**: {result.reason}"]
    for name, candidate in (("best", result.best), ("default", result.default)):
        if candidate:
            lines.append(f"- {name}: {params_text(candidate.params)} (trial {candidate.trial})")
    note = f"{lines[0]}\n\n" + "\n".join(lines[1:]) + NESTED
    tags = {
        "fedbench.answer": str(result.answer),
        "fedbench.reason": result.reason,
        "fedbench.fresh_seeds": ",".join(map(str, result.fresh_seeds)),
        "mlflow.note.content": note,
    }
    return tags | ({"fedbench.verdict": str(result.best.verdict)} if result.best else {})


def study_metrics(result: TuningResult) -> dict[str, float]:
    """A study's metrics."""
    metrics = {name: float(count) for name, count in _counts(result).items()}
    for name, candidate in (("best", result.best), ("default", result.default)):
        if candidate:
            metrics |= {f"{name}/{key}": value for key, value in _candidate_metrics(candidate).items()}
    if result.gain:
        mean, (low, high) = result.gain
        metrics |= {"gain/mean": mean, "gain/ci95_low": low, "gain/ci95_high": high}
    return metrics


def _candidate_metrics(candidate: Candidate) -> dict[str, float]:
    test = candidate.test
    found = {
        "validation": candidate.validation.mean,
        "validation/std": candidate.validation.std,
        "test/mean": test.mean if test else None,
        "test/std": test.std if test else None,
        **candidate.params,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _counts(result: TuningResult) -> dict[str, int]:
    return {
        "trials": len(result.trials),
        "pruned": result.count("pruned"),
        "failed": result.count("failed"),
        **{
            verdict.replace(" ", "_"): sum(trial.verdict is verdict for trial in result.trials)  # in any state
            for verdict in (Verdict.BELOW_MAJORITY, Verdict.COLLAPSED, Verdict.DIVERGED)
        },
        "local_steps": result.local_steps,
        "answers": result.answers,
    }


def trial_tags(plan: Plan, identity: str, trial: TrialResult) -> dict[str, str]:
    """A trial's tags."""
    tags = _common_tags(plan, identity) | {
        "fedbench.kind": "trial",
        TRIAL: str(trial.number),
        "fedbench.state": trial.state,
        "fedbench.verdict": str(trial.verdict),
    }
    if trial.reason:
        tags |= {"fedbench.reason": trial.reason, "mlflow.note.content": f"{trial.verdict}: {trial.reason}"}
    return tags


def trial_params(plan: Plan, trial: TrialResult) -> dict[str, str]:
    """Every field of the configuration that the trial measured."""
    return param_texts(plan.spec_of(trial.params).values)


def round_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """A trial's metrics of one round; what is measured while training is not the validation split's."""
    return {name if name == "train_loss" else f"validation/{name}": value for name, value in values.items()}


def trial_metrics(trial: TrialResult) -> dict[str, float]:
    """A trial's metrics at its end.

    The objective of a trial that did not complete is not that of the others, and is left out; so is one that is not
    finite, as charts could not show the others.
    """
    metrics = {"local_steps": float(trial.local_steps), "seconds": trial.seconds}
    if trial.state == "complete" and trial.value is not None and math.isfinite(trial.value):
        metrics["objective"] = trial.value
        if (std := spread(trial.values).std) is not None:
            metrics["objective/std"] = std
    return metrics


def version_tags(plan: Plan, identity: str, candidate: Candidate) -> dict[str, str]:
    """The tags of a registered model's version."""
    return {
        STUDY: identity,
        "fedbench.suite": plan.suite,
        "fedbench.scenario": plan.scenario,
        "fedbench.params": params_text(candidate.params),
        "fedbench.objective": str(plan.objective),
        "fedbench.validation": str(candidate.validation.mean),
    }


def trials_csv(result: TuningResult) -> str:
    """A row per trial: the searched fields, the objective and each seed's, and the outcome."""
    plan = result.plan
    fields = [axis.field for axis in plan.space]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    seeds = [f"seed {seed}" for seed in plan.seeds]
    writer.writerow(["trial", "state", *fields, "objective", *seeds, "verdict", "reason", "local_steps", "seconds"])
    for trial in result.trials:
        values = [*trial.values, *[""] * (len(seeds) - len(trial.values))]
        params = ["null" if trial.params.get(field) is None else trial.params[field] for field in fields]
        became = [trial.verdict, trial.reason, trial.local_steps, trial.seconds]
        writer.writerow([trial.number, trial.state, *params, trial.value, *values, *became])
    return buffer.getvalue()


def study_json(result: TuningResult) -> dict[str, Any]:
    """A whole study as one JSON object; see docs/reference/json.md. Numbers that are not finite are null."""
    plan = result.plan
    mean, (low, high) = result.gain or (None, (None, None))
    return {
        "suite": plan.suite,
        "scenario": plan.scenario,
        "cell": plan.cell,
        "objective": str(plan.objective),
        "target": plan.target,
        "budget": plan.budget,
        "most_rounds": plan.most_rounds,
        "searched": [axis.field for axis in plan.space],
        "seeds": list(plan.seeds),
        "fresh_seeds": list(result.fresh_seeds),
        "fresh_seeds_reused": result.fresh_seeds_reused,
        **_counts(result),
        "seconds": result.seconds,
        "best": _candidate_json(result.best),
        "default": _candidate_json(result.default),
        "gain": {"mean": _number(mean), "low": _number(low), "high": _number(high)},
        "verdict": str(result.answer),
        "reason": result.reason,
    }


def _candidate_json(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    test = candidate.test
    return {
        "trial": candidate.trial,
        "params": dict(candidate.params),
        "rounds": candidate.spec.rounds,
        "validation": _number(candidate.validation.mean),
        "validation_values": [_number(value) for value in candidate.validation.values],
        "test": {
            "mean": _number(test.mean) if test else None,
            "std": _number(test.std) if test else None,
            "values": [_number(value) for value in test.values] if test else [],
        },
        "verdict": str(candidate.verdict),
        "reason": candidate.reason,
        "local_steps": candidate.local_steps,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
