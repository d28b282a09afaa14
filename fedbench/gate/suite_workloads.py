"""The works of a suite (`fedbench.gate.works`) as workloads of one tree, for `fedbench.gate.turns_worker`.

This file is run outside the package, next to ``works.json``, with the tree in `TREE`. Each work finds its own parts, so
that what a revision lacks concerns no other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from fedbench.bench.workloads import MEMORY, Task, set_up

__all__ = ["WORKLOADS", "set_up"]

TREE = Path(globals().get("TREE", "."))
SMALL_STEP = 1e-6  # the learning rate: however often a model is trained, it stays what it is


@dataclass(frozen=True)
class Workload:
    """What `turns_worker` reads of a work."""

    name: str
    group: str
    make: Callable[[], Task]
    only_in_bench: bool = False


def training(spec: Any, inputs: Any, number: int) -> Task:
    """A round of one client that takes one step: from the server's model to the next."""
    from fedbench.core import ClientData
    from fedbench.runs.simulation import fedavg_rounds

    client = ClientData(*(each[:number] for each in inputs["train"]))
    rounds = fedavg_rounds(spec, 0, OneClient([client]))  # type: ignore[arg-type]
    return Task(next, lambda: (rounds,), lambda result: tuple(result.selected_clients) == (0,))


class OneClient(list[Any]):
    """Clients that all take part."""

    participants = (0,)


def evaluation(spec: Any, inputs: Any, number: int) -> Task:
    """The evaluation of one batch."""
    from fedbench.core import evaluate

    images, labels = (each[:number] for each in inputs["test"])
    module = initial(spec).module
    return Task(evaluate, lambda: (module, images, labels), lambda found: bool(found.num_examples == len(labels)))


def averaging(spec: Any, inputs: Any, number: int) -> Task:
    """The aggregation of the models of `number` clients, and the server's step after it."""
    import torch

    from fedbench.core import ModelState, accumulator_of
    from fedbench.hooks import ClientContext, ServerContext

    rule, algorithm = spec.part("aggregation"), spec.part("algorithm")
    model, stream = initial(spec), torch.Generator().manual_seed(0)
    for_model = getattr(rule, "for_model", None)
    accumulator = for_model(model.module, inputs["train"][0]) if for_model else accumulator_of(rule)
    size, counters = len(model.vector) - (0 if spec.average_frozen else model.num_frozen), model.state().counters
    distinct = min(max(MEMORY // (4 * size), 2), number)  # more than the caches hold, if possible
    vectors = [torch.randn(size, generator=stream, dtype=model.vector.dtype) for _ in range(distinct)]
    states = [ModelState(vector, counters) for vector in vectors]
    start, memory = model.parameters.clone(), algorithm.initial(model.parameters)
    message = algorithm.message(start, 1, ClientContext(start, memory, torch.zeros_like(start), SMALL_STEP))
    context = ServerContext(start, memory, message, 1.0)

    def aggregate(clients: Iterator[Any]) -> Any:
        combined = accumulator()
        for state in clients:
            combined.add(state, 1 / number)
        return algorithm.server_step(combined.state().vector[: len(start)], context)[0]

    return Task(aggregate, lambda: (islice(cycle(states), number),), lambda found: found.shape == start.shape)


def initial(spec: Any) -> Any:
    """The flat model that a run starts from."""
    from fedbench.core import FlatModel
    from fedbench.core.trainer import initial_model

    return FlatModel(initial_model(spec.build_model, seed=0, client=0))


def make(work: Mapping[str, Any]) -> Task:
    """The task of a work, with the parts of this tree."""
    import torch
    from pydantic import ValidationError

    from fedbench.suites.cell import CellSpec
    from fedbench.suites.checks import Parts, cell_error
    from fedbench.suites.uses import USE
    from fedbench.util.errors import SuiteError

    clients = work["number"] if work["group"] == "averaging" else 1
    fields = {"num_clients": clients, "local_epochs": 1, "rounds": 1_000_000, "learning_rate": SMALL_STEP}
    fields |= work["fields"]
    for kind, options in work["uses"].items():
        fields |= {kind if name == USE else name: value for name, value in options.items()}
    try:
        spec = CellSpec.model_validate(fields, context={"find": Parts(TREE, [work["uses"]]).find})
    except ValidationError as error:
        raise SuiteError(cell_error(error)) from None
    inputs = torch.load(Path(__file__).with_name(f"{work['inputs']}.pt"))
    task = {"training": training, "evaluation": evaluation, "averaging": averaging}[work["group"]]
    made = task(spec, inputs, work["number"])
    refuse_imports_of_others()

    def is_right(result: Any) -> bool:
        refuse_imports_of_others()  # the calls may have imported more
        return made.is_right(result)

    return replace(made, is_right=is_right)


def refuse_imports_of_others() -> None:
    """Refuse what was imported from the working tree itself: it would be the same code on both sides."""
    root, now = Path(CONTENT["root"]), Path(CONTENT["now"])
    for module in list(sys.modules.values()):
        file = Path(getattr(module, "__file__", None) or "/").resolve()
        if file.is_relative_to(root):
            copied = now / file.relative_to(root)
            if copied.exists() and copied.resolve() == copied:
                raise ImportError(f"{module.__name__} is imported from {file.parent}, which is not the revision's")


WORKS = Path(__file__).with_name("works.json")
CONTENT = json.loads(WORKS.read_text()) if WORKS.exists() else {}
WORKLOADS = [Workload(each["name"], each["group"], partial(make, each)) for each in CONTENT.get("works", ())]
