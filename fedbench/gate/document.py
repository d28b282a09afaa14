"""A check as JSON for machines, and how a check is written to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedbench.gate.checks import AccuracyCheck, Gate, SpeedCheck
from fedbench.gate.junit import junit_xml
from fedbench.gate.markdown import gate_markdown
from fedbench.gate.power import POWER
from fedbench.reports.layout import number
from fedbench.stats import LEVEL, Spread
from fedbench.util.files import plain_errors, replacing


def write_pages(gate: Gate, junit: Path | None, markdown: Path | None) -> None:
    """Write the check as JUnit XML and as Markdown, each if there is a path.

    Raises `DataError` if a file cannot be written.
    """
    for path, make in ((junit, junit_xml), (markdown, gate_markdown)):
        if path is not None:
            with plain_errors(f"cannot write {path}"), replacing(path) as file:
                file.write(make(gate).encode())


def gate_json(gate: Gate) -> dict[str, Any]:
    """The check for machines; see docs/reference/json.md. What is not a finite number is null."""
    return {
        "passed": gate.has_passed,
        "strict": gate.is_strict,
        "failures": list(gate.failures),
        "level": LEVEL,
        "power": POWER,
        "accuracy": _accuracy_json(gate.accuracy, gate.is_strict) if gate.accuracy else None,
        "speed": _speed_json(gate.speed, gate.is_strict) if gate.speed else None,
    }


def _accuracy_json(accuracy: AccuracyCheck, is_strict: bool) -> dict[str, Any]:
    return {
        "suite": accuracy.suite,
        "metric": accuracy.metric,
        "margin": accuracy.margin,
        "baseline_commit": accuracy.baseline_commit,
        "other_environment": list(accuracy.other_environment),
        "compares_bits": accuracy.compares_bits,
        "seconds": number(accuracy.seconds),
        "cells": [
            {
                "scenario": each.cell.scenario,
                "label": each.cell.label,
                "judgement": str(each.judgement),
                "reason": each.reason,
                "changed": each.changed,
                "failure": each.failure(is_strict),
                "baseline": _spread_json(each.baseline),
                "now": _spread_json(each.now),
                "difference": number(each.difference),
                "ci95": [number(bound) for bound in each.interval or ()],
                "paired": each.is_paired,
                "least_effect": number(each.detectable_effect),
                "seeds_needed": each.seeds_needed,
                "fresh_seeds_needed": each.fresh_seeds_needed,
                "baseline_seeds_needed": each.baseline_seeds_needed,
                "first_seeds": each.first_seeds,
            }
            for each in accuracy.cells
        ],
    }


def _spread_json(spread: Spread) -> dict[str, Any]:
    values = [number(value) for value in spread.values]
    return {"mean": number(spread.mean), "std": number(spread.std), "values": values}


def _speed_json(speed: SpeedCheck, is_strict: bool) -> dict[str, Any]:
    return {
        "against": speed.against,
        "against_commit": speed.against_commit,
        "threshold": speed.threshold,
        "unit": "seconds",
        "machine": speed.machine,
        "seconds": number(speed.seconds),
        "benchmarks": [
            {
                "name": each.name,
                "group": each.group,
                "judgement": str(each.judgement),
                "reason": each.reason,
                "failure": each.failure(is_strict),
                "before": number(each.before),
                "now": number(each.now),
                "ratio": number(each.ratio),
                "interval": [number(bound) for bound in each.interval or ()],
                "samples": each.samples,
            }
            for each in speed.benchmarks
        ],
    }
