"""Suites, cells, datasets, estimates and the doctor's findings, as tables for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.reports.fitted import Column, Fitted
from fedbench.suites.listing import Outline
from fedbench.util.text import counted, duration

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
    table = Fitted(
        Column("suite", [suite.name for suite in suites], is_text=True),
        Column("question", [suite.question for suite in suites], is_text=True),
        Column("datasets", [_datasets(suite) for suite in suites], is_text=True, drop=1),
        # Its size is known once its code is executed.
        Column("cells", ["?" if isinstance(suite, Outline) else str(len(suite.cells)) for suite in suites]),
        Column("runs", ["?" if isinstance(suite, Outline) else str(len(suite.runs)) for suite in suites]),
    )
    return Group(table, "", "Run one with: fedbench run SUITE. See its cells with: fedbench suites SUITE.")


def _datasets(suite: Suite | Outline) -> str:
    if isinstance(suite, Outline):
        return f"not executed: {', '.join(suite.own)}"
    return ", ".join(sorted({cell.spec.dataset for cell in suite.cells}))


def cells_table(suite: Suite) -> RenderableType:
    """One suite's cells."""
    specs = [cell.spec for cell in suite.cells]
    columns = (
        Column("dataset", [spec.dataset for spec in specs], is_text=True, drop=1),
        Column("model", [spec.model for spec in specs], is_text=True, drop=2),
        Column("K", [str(spec.num_clients) for spec in specs]),
        Column("n", [str(spec.num_examples) for spec in specs]),
        Column("E", [str(spec.local_epochs) for spec in specs]),
        Column("B", [str(spec.batch_size or "all") for spec in specs]),
        Column("rounds", [str(spec.rounds) for spec in specs]),
        Column("learning rate", [f"{spec.learning_rate:g}" for spec in specs]),
        Column("seeds", [str(len(cell.seeds)) for cell in suite.cells], drop=3),
    )
    differ = [each for each in columns if len(set(each.entries)) > 1]
    same = ", ".join(f"{each.title} {each.entries[0]}" for each in columns if each not in differ)
    labels = Column("cell", [cell.label for cell in suite.cells], is_text=True)
    about = [f"All cells: {same}."] if same else []
    table = Fitted(labels, *differ, title=suite.name)
    return Group(table, "", suite.question, *about, f"{suite.path}{_own(suite)}")


def _own(suite: Suite) -> str:
    """A line on the parts of a suite that are not built in, whose code was executed."""
    names = dict.fromkeys(part.name for cell in suite.cells for part in cell.spec.parts if part.digest)
    return f"\nParts of its own, executed: {', '.join(names)}" if names else ""


def estimate_table(suite: Suite, estimates: Sequence[CellEstimate], num_workers: int) -> RenderableType:
    """What would run, and an estimate of the time: of a cell on one core, of all on `num_workers`."""
    table = Fitted(
        Column("cell", [each.cell.label for each in estimates], is_text=True),
        Column("runs", ["0" if each.shortfall else str(len(each.cell.seeds)) for each in estimates]),
        Column("local steps", ["" if each.shortfall else f"{each.local_steps:,}" for each in estimates], drop=1),
        Column("about", [_about(each) for each in estimates], is_text=True),
        title=f"{suite.name}: what would run",
    )
    runs, cores = counted(_num_runs(estimates), "run"), counted(num_workers, "core")
    total = duration(sum(each.seconds for each in estimates) / num_workers, 2)
    return Group(table, "", f"{runs}, about {total} on {cores}, if none is finished yet.{_own(suite)}")


def _about(estimate: CellEstimate) -> str:
    return f"skipped: {estimate.shortfall}" if estimate.shortfall else duration(max(estimate.seconds, 1), 2)


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
    sizes = [status.info.sizes for status in statuses]
    present = [Text("yes", "green") if each.present else Text(f"no: {each.command}", "yellow") for each in statuses]
    table = Fitted(
        Column("dataset", [status.name for status in statuses], is_text=True),
        Column("split", ["\n".join(each) for each in sizes], is_text=True),
        Column("train", ["\n".join(str(train) for train, _ in each.values()) for each in sizes]),
        Column("test", ["\n".join(str(test) for _, test in each.values()) for each in sizes]),
        Column("classes", [str(status.info.num_classes) for status in statuses], drop=2),
        Column("licence", [status.info.licence for status in statuses], is_text=True, drop=1),
        Column("present", present, is_text=True),
    )
    own = "Your own files, folders and functions, and the datasets of torchvision: fedbench components dataset"
    return Group(table, "", own)


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
    return Fitted(
        Column("check", [finding.check for finding in findings], is_text=True),
        Column("status", [Text(finding.status, styles[finding.status]) for finding in findings], is_text=True),
        Column("finding", [finding.text for finding in findings], is_text=True),
    )
