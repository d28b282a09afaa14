"""A suite's results as a table for people and as JSON for machines (see docs/reference/json.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.measures import MEANINGS, RECOVERED, ROUNDS_TO_TARGET, RunResult, Verdict
from fedbench.reports.answers import answer_all, answers_json
from fedbench.reports.fitted import Column, Fitted
from fedbench.reports.layout import (
    STYLES,
    field_text,
    mean_std,
    number,
    over_seeds,
    percent,
    reached,
    short_verdict,
    spread_json,
)
from fedbench.stats import Spread, spread, spread_if_all
from fedbench.tracking.records import REPORTED, CellResult, StoredSuite, cell_result
from fedbench.util.text import counted

if TYPE_CHECKING:
    from fedbench.runs.suite_run import Outcome
    from fedbench.suites.schema import Suite

DROPPED = {"balanced_accuracy": 1, "clients_alone": 2, "majority_rate": 3}  # where there is no room, the last first
CLIENTS_ALONE = "Clients alone: the mean accuracy of their own models just before the last average."
RECOVERED_MEANING = (
    "Recovered: how much of the gap between the plain average and the clients alone aligning closes, with its 95 % "
    "interval by Fieller's method."
)


def cell_results(suite: Suite, outcomes: Iterable[Outcome]) -> list[CellResult]:
    """Gather outcomes into cells, in the order of the suite; cells without an outcome are left out."""
    by_cell: dict[str, dict[int, RunResult]] = {}
    for outcome in outcomes:
        by_cell.setdefault(outcome.run.cell, {})[outcome.run.seed] = outcome.result
    return [cell_result(cell, by_cell[cell.label]) for cell in suite.cells if cell.label in by_cell]


def count_runs(outcomes: Sequence[Outcome]) -> str:
    """How many runs were executed, finished before, skipped and failed."""
    executed = sum(outcome.executed for outcome in outcomes)
    impossible = sum(_has(outcome, Verdict.SKIPPED) for outcome in outcomes)
    parts = [f"{counted(executed, 'run')} executed"]
    if finished := len(outcomes) - executed - impossible:
        parts.append(f"{finished} {'was' if finished == 1 else 'were'} already finished")
    if impossible:
        parts.append(f"{impossible} skipped for lack of data")
    if failed := num_failed(outcomes):
        parts.append(f"{failed} failed")
    return ", ".join(parts) + "."


def num_failed(outcomes: Iterable[Outcome]) -> int:
    """How many of the executed runs failed."""
    return sum(outcome.executed and _has(outcome, Verdict.FAILED) for outcome in outcomes)


def _has(outcome: Outcome, verdict: Verdict) -> bool:
    return outcome.result.verdict is verdict


def suite_json(suite: Suite, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One JSON object for machines. Rates are fractions in [0, 1]; what is not finite is null."""
    results = cell_results(suite, outcomes)
    return {
        "suite": suite.name,
        "executed": sum(outcome.executed for outcome in outcomes),
        "skipped": sum(not outcome.executed and outcome.result is not None for outcome in outcomes),
        "failed": num_failed(outcomes),
        "computed_elsewhere": sum(outcome.elsewhere is not None for outcome in outcomes),
        "cells": [_cell_json(result) for result in results],
        "answers": answers_json(answer_all(results, suite.contrast)),
    }


def stored_json(stored: StoredSuite) -> dict[str, Any]:
    """The same for results that were read back from a store: nothing was executed."""
    counts = {"executed": 0, "skipped": sum(len(cell.runs) for cell in stored.cells), "failed": 0}
    results = [cell.result for cell in stored.cells]
    answers = answers_json(answer_all(stored.current, stored.contrast))
    return {"suite": stored.name, **counts, "cells": [_cell_json(each) for each in results], "answers": answers}


def _cell_json(result: CellResult) -> dict[str, Any]:
    by_client = _client_spreads(result.client_accuracy)
    return {
        "scenario": result.cell.scenario,
        "label": result.cell.label,
        "params": result.cell.spec.values,
        "seeds": list(result.seeds),
        "verdict": str(result.verdict),
        "reason": result.reason,
        **{name: spread_json(result.measures.get(name)) for name in REPORTED},
        "client_accuracy": {
            "mean": [number(each.mean) for each in by_client],
            "std": [number(each.std) for each in by_client],
            "values": [[number(value) for value in each.values()] for each in result.client_accuracy],
        },
        ROUNDS_TO_TARGET: _target_json(result),
        RECOVERED: _recovered_json(result),
    }


def _recovered_json(result: CellResult) -> dict[str, Any] | None:
    if (found := result.recovered) is None:
        return None
    return {"ratio": number(found.ratio), "ci95": [number(found.low), number(found.high)]}


def _target_json(result: CellResult) -> dict[str, Any] | None:
    spec, values = result.cell.spec, result.rounds_to_target
    if spec.target_accuracy is None:
        return None
    return {
        "target": spec.target_accuracy,
        "rounds": spec.rounds,
        "reached": sum(value is not None for value in values),
        **spread_json(spread_if_all(values)),
        "values": list(values),
    }


def _client_spreads(client_accuracy: Sequence[Mapping[int, float]]) -> list[Spread]:
    """Each client's spread over seeds; empty if the seeds measured different clients."""
    if len({tuple(by_client) for by_client in client_accuracy}) != 1:
        return []
    columns = zip(*(by_client.values() for by_client in client_accuracy), strict=True)
    return [spread(column) for column in columns]


def results_table(name: str, question: str, results: Sequence[CellResult]) -> RenderableType:
    """A table, and below it what needs explaining."""
    axes = list(dict.fromkeys(axis for each in results for axis in each.cell.axes))
    targets = sorted({target for each in results if (target := each.cell.spec.target_accuracy) is not None})
    columns: dict[str, list[str | Text]] = {
        "scenario": [each.cell.scenario for each in results],
        **{axis: [field_text(each.cell.spec, axis, none="") for each in results] for axis in axes},
        "accuracy": [_measure(each, "accuracy") for each in results],
        "balanced_accuracy": [_measure(each, "balanced_accuracy") for each in results],
        "clients_alone": [clients_alone(each) for each in results],
        RECOVERED: [recovered(each) for each in results],
        **({"rounds_to_target": [rounds_to_target(each) for each in results]} if targets else {}),
        "majority_rate": [
            f"{100 * each.measures['majority_rate'].mean:.1f}" if each.measures else "" for each in results
        ],
        "seeds": [str(len(each.seeds)) for each in results],
        "verdict": [Text(short_verdict(each.verdict, each.reason), style=STYLES[each.verdict]) for each in results],
    }
    same = {key: str(columns[key][0]) for key in ("scenario", "majority_rate", "seeds") if len(set(columns[key])) == 1}
    names = {axis for axis in axes if any(isinstance(each.cell.spec.get(axis), str) for each in results)}
    shown = [
        Column(key.replace("_", " "), column, key in {"scenario", "verdict", *names}, DROPPED.get(key, 0))
        for key, column in columns.items()
        if key not in same and any(map(str, column))
    ]
    scenarios = [each.cell.scenario for each in results]
    ends = {index for index, (one, other) in enumerate(pairwise(scenarios)) if one != other}
    table = Fitted(*shown, title=name, sections=ends)
    about = [_about_targets(targets, results)] if targets else []
    about += [CLIENTS_ALONE] if any(columns["clients_alone"]) else []
    about += [RECOVERED_MEANING] if any(columns[RECOVERED]) else []
    return Group(table, "", question, _caption(same, results), *about, *_notes(results))


def _caption(same: Mapping[str, str], results: Sequence[CellResult]) -> str:
    majority = f" Always predicting the largest class: {same['majority_rate']}." if same.get("majority_rate") else ""
    counts = [len(each.seeds) for each in results]
    unequal = " The mean of a cell with fewer seeds is less certain." if len(set(counts)) > 1 else ""
    return f"Percent, {over_seeds(counts)}.{unequal}{majority}"


def _about_targets(targets: Sequence[float], results: Sequence[CellResult]) -> str:
    named = f"Target: {' or '.join(f'{100 * target:g} %' for target in targets)} accuracy."
    if any(None in each.rounds_to_target for each in results if each.cell.spec.target_accuracy is not None):
        named += " k/n in R: k of n seeds reached it within R rounds; not in R: none did."
    return named


def _measure(result: CellResult, name: str) -> str:
    return percent(result.measures[name]) if result.measures else ""


def clients_alone(result: CellResult) -> str:
    """The mean accuracy of the clients' own models, over seeds and in percent."""
    means = [fmean(each.values()) for each in result.client_accuracy if each]
    return percent(spread(means)) if means else ""


def recovered(result: CellResult) -> str:
    """``85 (70 to 101)``; empty if nothing was aligned, or there is no gap."""
    found = result.recovered
    return f"{100 * found.ratio:.0f} ({100 * found.low:.0f} to {100 * found.high:.0f})" if found else ""


def rounds_to_target(result: CellResult) -> str:
    """``87 ± 5``, or how many seeds reached the target; empty if there is none."""
    values, spec = result.rounds_to_target, result.cell.spec
    if spec.target_accuracy is None or not values:
        return ""
    over = spread_if_all(values)
    return mean_std(over, 1 if over.mean < 10 else 0) if over else reached(values, spec.rounds)


def _notes(results: Sequence[CellResult]) -> list[Text]:
    present = {each.verdict for each in results}
    meanings = [
        Text(f"{verdict}: {text}.", style=STYLES[verdict]) for verdict, text in MEANINGS.items() if verdict in present
    ]
    explained = (Verdict.FAILED, Verdict.SKIPPED, Verdict.DIVERGED)
    return meanings + [Text(f"  {each.cell.label}: {each.reason}") for each in results if each.verdict in explained]
