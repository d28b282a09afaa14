"""Suites, cells, datasets, estimates and the doctor's findings, as tables for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.suites.listing import Outline
from fedbench.util.text import duration

if TYPE_CHECKING:
    from fedbench.datasets import DatasetStatus
    from fedbench.runs.doctor import Finding
    from fedbench.runs.estimate import CellEstimate
    from fedbench.suites.schema import Suite


def suite_summary(suite: Suite) -> dict[str, Any]:
    """A suite's contents for machines."""
    cells = [{"scenario": cell.scenario, "label": cell.label, "params": cell.spec.values} for cell in suite.cells]
    return {
        "suite": suite.name,
        "question": suite.question,
        "path": str(suite.path),
        "seeds": list(suite.seeds),
        "runs": len(suite.runs),
        "cells": cells,
    }


def outline_summary(suite: Outline) -> dict[str, Any]:
    """What is known of a suite with parts that are not built in, for machines."""
    unread = dict.fromkeys(("seeds", "runs", "cells"))
    return {"suite": suite.name, "question": suite.question, "path": str(suite.path), "own": list(suite.own), **unread}


def suites_table(suites: Sequence[Suite | Outline]) -> RenderableType:
    """Names, questions and sizes."""
    table = Table("suite", "question", "datasets", title="Suites")
    table.add_column("cells", justify="right")
    table.add_column("runs", justify="right")
    for suite in suites:
        if isinstance(suite, Outline):  # its size is known once its code is executed
            table.add_row(suite.name, suite.question, f"not executed: {', '.join(suite.own)}", "?", "?")
            continue
        datasets = sorted({cell.spec.dataset for cell in suite.cells})
        table.add_row(suite.name, suite.question, ", ".join(datasets), str(len(suite.cells)), str(len(suite.runs)))
    return Group(table, "Run one with: fedbench run SUITE. See its cells with: fedbench suites SUITE.")


def cells_table(suite: Suite) -> RenderableType:
    """One suite's cells."""
    table = Table("cell", "dataset", "model", title=suite.name, caption=f"{suite.question}\n{suite.path}{_own(suite)}")
    for name in ("K", "n", "E", "B", "rounds", "learning rate", "seeds"):
        table.add_column(name, justify="right")
    for cell in suite.cells:
        spec = cell.spec
        numbers = (spec.num_clients, spec.num_examples, spec.local_epochs, spec.batch_size or "all", spec.rounds)
        table.add_row(
            cell.label, spec.dataset, spec.model, *map(str, numbers), f"{spec.learning_rate:g}", str(len(cell.seeds))
        )
    return table


def _own(suite: Suite) -> str:
    """A line on the parts of a suite that are not built in, whose code was executed."""
    names = dict.fromkeys(part.name for cell in suite.cells for part in cell.spec.parts if part.digest)
    return f"\nParts of its own, executed: {', '.join(names)}" if names else ""


def estimate_table(suite: Suite, estimates: Sequence[CellEstimate], num_workers: int) -> RenderableType:
    """What would run, and an estimate of the time: of a cell on one core, of all on `num_workers`."""
    table = Table("cell", title=f"{suite.name}: what would run")
    for name in ("runs", "local steps", "about"):
        table.add_column(name, justify="right")
    for each in estimates:
        if each.shortfall:
            table.add_row(each.cell.label, "0", "", f"skipped: {each.shortfall}")
        else:
            table.add_row(
                each.cell.label, str(len(each.cell.seeds)), f"{each.local_steps:,}", duration(max(each.seconds, 1), 2)
            )
    runs = _num_runs(estimates)
    total = duration(sum(each.seconds for each in estimates) / num_workers, 2)
    cores = "1 core" if num_workers == 1 else f"{num_workers} cores"
    return Group(table, f"{runs} runs, about {total} on {cores}, if none is finished yet.{_own(suite)}")


def estimate_json(suite: Suite, estimates: Sequence[CellEstimate]) -> dict[str, Any]:
    """The estimates for machines; times are seconds on one core."""
    cells = [
        {
            "scenario": each.cell.scenario,
            "label": each.cell.label,
            "runs": 0 if each.shortfall else len(each.cell.seeds),
            "local_steps": each.local_steps,
            "seconds": each.seconds,
            "shortfall": each.shortfall,
        }
        for each in estimates
    ]
    seconds = sum(each.seconds for each in estimates)
    return {"suite": suite.name, "runs": _num_runs(estimates), "seconds": seconds, "cells": cells}


def _num_runs(estimates: Sequence[CellEstimate]) -> int:
    return sum(len(each.cell.seeds) for each in estimates if not each.shortfall)


def datasets_table(statuses: Sequence[DatasetStatus]) -> RenderableType:
    """The datasets and whether they are present."""
    table = Table("dataset", "split", title="Datasets")
    for name in ("train", "test", "classes"):
        table.add_column(name, justify="right")
    table.add_column("licence")
    table.add_column("present")
    for status in statuses:
        sizes = status.info.sizes
        table.add_row(
            status.name,
            "\n".join(sizes),
            "\n".join(str(train) for train, _ in sizes.values()),
            "\n".join(str(test) for _, test in sizes.values()),
            str(status.info.num_classes),
            status.info.licence,
            Text("yes", "green") if status.present else Text(f"no: {status.command}", "yellow"),
        )
    own = "Your own files, folders and functions, and the datasets of torchvision: fedbench components dataset"
    return Group(table, own)


def datasets_json(statuses: Sequence[DatasetStatus]) -> dict[str, Any]:
    """The datasets for machines."""
    return {
        "datasets": [
            {
                "name": status.name,
                "splits": {split: {"train": n, "test": m} for split, (n, m) in status.info.sizes.items()},
                "classes": status.info.num_classes,
                "licence": status.info.licence,
                "present": status.present,
                "command": status.command,
            }
            for status in statuses
        ]
    }


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """The doctor's findings."""
    styles = {"ok": "green", "note": "yellow", "failed": "red"}
    table = Table("check", "status", "finding", title="fedbench doctor")
    for finding in findings:
        table.add_row(finding.check, Text(finding.status, styles[finding.status]), finding.text)
    return table
