"""What a suite's cells do again and again: the distinct training steps, evaluations and aggregations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fedbench.components import KINDS, Component
from fedbench.suites.cell import CellSpec
from fedbench.suites.fields import CommonFields
from fedbench.suites.schema import Suite

# What each group runs: parts, and fields that change what they do. How much there is of it does not matter.
READS = {
    "training": ("model", "algorithm", "optimiser", "augmentation", "batch_size", "clip_norm"),
    "evaluation": ("model",),
    "averaging": ("model", "algorithm", "aggregation", "average_frozen"),
}
MAX_EXAMPLES = 250  # of a step or an evaluation: a batch of core.evaluate


@dataclass(frozen=True)
class Work:
    """One of them: of a group of `READS`, with so many examples in a call, or clients in an aggregation.

    The name is what a user reads: ``train ./my_net.py:Net batch 50 on mnist-5k``.
    """

    name: str
    group: str
    spec: CellSpec
    number: int

    @property
    def parts(self) -> list[Component]:
        """The parts that it runs."""
        return [self.spec.component(kind) for kind in READS[self.group] if kind in KINDS]

    @property
    def fields(self) -> dict[str, Any]:
        """The other scenario fields that it reads."""
        return {field: self.spec.get(field) for field in READS[self.group] if field not in KINDS}


def works_of(suite: Suite) -> list[Work]:
    """The works of a suite in the order of its cells; an aggregation is of the most clients that it has."""
    found: dict[str, Work] = {}
    for spec in (cell.spec for cell in suite.cells):
        for work in _works(spec):
            known = found.setdefault(work.name, work)
            found[work.name] = known if known.number >= work.number else replace(known, number=work.number)
    return [
        replace(each, name=f"average {each.number} of {each.name}") if each.group == "averaging" else each
        for each in found.values()
    ]


def _works(spec: CellSpec) -> Iterator[Work]:
    model, dataset = title(spec, "model"), title(spec, "dataset")
    batch = f"batch {spec.batch_size}" if spec.batch_size else "in one batch"
    size = min(spec.batch_size or spec.num_examples, MAX_EXAMPLES)
    yield Work(f"train {model} {batch} on {dataset}{_with(spec, 'training')}", "training", spec, size)
    yield Work(f"evaluate {model} on {dataset}", "evaluation", spec, MAX_EXAMPLES)
    yield Work(f"{model}{_with(spec, 'averaging')}", "averaging", spec, spec.clients_per_round)


def _with(spec: CellSpec, group: str) -> str:
    """What else a group reads that is not the default: ``, algorithm=fedprox proximal_weight=0.1``."""
    titles = {field: title(spec, field) for field in READS[group] if field not in ("model", "batch_size")}
    default = CommonFields.model_fields
    return "".join(f", {field}={text}" for field, text in titles.items() if text != str(default[field].default))


def title(spec: CellSpec, field: str) -> str:
    """A value, and of a part its options: ``./my_net.py:Net width=64``."""
    options = changed_options(spec, field) if field in KINDS else {}
    return " ".join([str(spec.get(field)), *(f"{name}={value}" for name, value in options.items())])


def changed_options(spec: CellSpec, kind: str) -> dict[str, Any]:
    """The options of a part that are not its defaults: those are each tree's own."""
    declared = spec.component(kind).options.model_fields
    return {name: value for name, value in spec.options_of(kind).items() if value != declared[name].default}
