"""The results of a suite, cell by cell, with the spread over seeds; and as JSON (see docs/results-json.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedbench.measures import ROUNDS_TO_TARGET, RunResult, Verdict, judge_cell
from fedbench.stats import Spread, spread, spread_if_all

if TYPE_CHECKING:
    from fedbench.runs.suite_run import Outcome
    from fedbench.suites.schema import Cell, Suite

REPORTED = ("accuracy", "balanced_accuracy", "loss", "majority_rate")


@dataclass(frozen=True)
class CellResult:
    """One cell's outcome over its seeds.

    Attributes
    ----------
    seeds
        Those whose numbers are in `measures`, in order; failed and skipped runs have no numbers.
    measures
        For each name in `REPORTED`, its final value over `seeds`; empty if no run of the cell has numbers.
    client_accuracy
        For each seed, by client, the accuracy of its own model before the last average.
    rounds_to_target
        For each seed, after how many rounds it reached the cell's target; None where it did not.
    """

    cell: Cell
    seeds: tuple[int, ...]
    verdict: Verdict
    reason: str | None
    measures: dict[str, Spread]
    client_accuracy: tuple[Mapping[int, float], ...]
    rounds_to_target: tuple[float | None, ...] = ()


def cell_results(suite: Suite, outcomes: Iterable[Outcome]) -> list[CellResult]:
    """Gather outcomes into cells, in the order of the suite. Cells without an outcome are left out."""
    by_cell: dict[str, dict[int, RunResult]] = {}
    for outcome in outcomes:
        if outcome.result is not None:
            by_cell.setdefault(outcome.run.cell, {})[outcome.run.seed] = outcome.result
    return [cell_result(cell, by_cell[cell.label]) for cell in suite.cells if cell.label in by_cell]


def cell_result(cell: Cell, by_seed: Mapping[int, RunResult]) -> CellResult:
    """One cell's results over its seeds."""
    results = {seed: by_seed[seed] for seed in cell.seeds if seed in by_seed}
    verdict, reason = judge_cell(
        [each.verdict for each in results.values()], [each.reason for each in results.values()]
    )
    measured = {seed: each for seed, each in results.items() if each.metrics}
    measures = (
        {name: spread([each.metrics[name] for each in measured.values()]) for name in REPORTED} if measured else {}
    )
    return CellResult(
        cell,
        tuple(measured),
        verdict,
        reason,
        measures,
        client_accuracy=tuple(each.client_accuracy for each in measured.values()),
        rounds_to_target=tuple(each.metrics.get(ROUNDS_TO_TARGET) for each in measured.values()),
    )


def count_runs(outcomes: Sequence[Outcome]) -> str:
    """What became of the runs, in words."""
    executed = sum(outcome.executed for outcome in outcomes)
    impossible = sum(_has(outcome, Verdict.SKIPPED) for outcome in outcomes)
    others = sum(outcome.result is None for outcome in outcomes)
    parts = [f"{executed} runs executed"]
    if finished := len(outcomes) - executed - impossible - others:
        parts.append(f"{finished} were finished already")
    if impossible:
        parts.append(f"{impossible} skipped for want of data")
    if failed := num_failed(outcomes):
        parts.append(f"{failed} failed")
    if others:
        parts.append(f"{others} left to another process that works on them")
    return ", ".join(parts) + "."


def num_failed(outcomes: Iterable[Outcome]) -> int:
    """How many of the runs that were executed failed."""
    return sum(outcome.executed and _has(outcome, Verdict.FAILED) for outcome in outcomes)


def _has(outcome: Outcome, verdict: Verdict) -> bool:
    return outcome.result is not None and outcome.result.verdict is verdict


def suite_json(suite: Suite, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One JSON object for machines. Rates are fractions in [0, 1]; what is not finite is null."""
    counts = {
        "executed": sum(outcome.executed for outcome in outcomes),
        "skipped": sum(not outcome.executed and outcome.result is not None for outcome in outcomes),
        "failed": num_failed(outcomes),
        "left": sum(outcome.result is None for outcome in outcomes),
    }
    return {"suite": suite.name, **counts, "cells": [_cell_json(result) for result in cell_results(suite, outcomes)]}


def stored_json(suite: Suite, results: Sequence[CellResult]) -> dict[str, Any]:
    """The same of results that were read back from a store: nothing was executed."""
    counts = {"executed": 0, "skipped": sum(len(result.cell.seeds) for result in results), "failed": 0, "left": 0}
    return {"suite": suite.name, **counts, "cells": [_cell_json(result) for result in results]}


def _cell_json(result: CellResult) -> dict[str, Any]:
    return {
        "scenario": result.cell.scenario,
        "label": result.cell.label,
        "params": result.cell.spec.model_dump(mode="json"),
        "seeds": list(result.seeds),
        "verdict": str(result.verdict),
        "reason": result.reason,
        **{name: _spread_json(result.measures.get(name)) for name in REPORTED},
        "client_accuracy": {
            "mean": _client_means(result.client_accuracy),
            "values": [list(by_client.values()) for by_client in result.client_accuracy],
        },
        ROUNDS_TO_TARGET: _target_json(result),
    }


def _target_json(result: CellResult) -> dict[str, Any] | None:
    spec, values = result.cell.spec, result.rounds_to_target
    if spec.target_accuracy is None:
        return None
    over = spread_if_all(values)
    return {
        "target": spec.target_accuracy,
        "rounds": spec.rounds,
        "reached": sum(value is not None for value in values),
        "mean": over.mean if over else None,
        "std": over.std if over else None,
        "values": list(values),
    }


def _client_means(client_accuracy: Sequence[Mapping[int, float]]) -> list[float]:
    """Each client's mean over seeds; empty where the seeds measured different clients."""
    if len({tuple(by_client) for by_client in client_accuracy}) != 1:
        return []
    return [
        math.fsum(by_client[client] for by_client in client_accuracy) / len(client_accuracy)
        for client in client_accuracy[0]
    ]


def _spread_json(spread: Spread | None) -> dict[str, Any]:
    if spread is None:
        return {"mean": None, "std": None, "ci95": [], "values": []}
    return {
        "mean": number(spread.mean),
        "std": number(spread.std),
        "ci95": [number(bound) for bound in spread.interval or ()],
        "values": [number(value) for value in spread.values],
    }


def number(value: float | None) -> float | None:
    """A number as JSON has it: null for what is not finite."""
    return value if value is not None and math.isfinite(value) else None
