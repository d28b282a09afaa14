"""Estimates how long a suite takes, from a few steps of each of its models on this machine."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial

import torch

from fedbench.core import ClientData, FlatModel, Purpose, evaluate, numpy_stream
from fedbench.core.client import augmented, client_update
from fedbench.executors.processes import prepare_to_compute
from fedbench.runs.costs import evaluated_at_the_end, evaluated_in_a_round, trained_in_a_round
from fedbench.runs.fit import require_fitting_models
from fedbench.suites.schema import Cell, CellSpec, Suite
from fedbench.util.errors import RunError, SuiteError
from fedbench.util.imports import last_line

TIMED = ("model", "optimiser", "augmentation")  # the kinds of parts that a step's time depends on
TIMED_EXAMPLES = 500
TRACKING_SECONDS = 0.13  # of a run with SQLite, including its model and its share of the cell's summary


@dataclass(frozen=True)
class CellEstimate:
    """The estimated cost of a cell.

    `local_steps` are those of SGD over all clients, rounds and seeds, `seconds` the wall time of all seeds; `shortfall`
    says why the cell would be skipped.
    """

    cell: Cell
    local_steps: int
    seconds: float
    shortfall: str | None


def estimate_suite(suite: Suite) -> list[CellEstimate]:
    """Estimate every cell of `suite`. Needs neither the data nor the tracking store."""
    require_fitting_models(cell.spec for cell in suite.cells)
    prepare_to_compute()
    speeds: dict[Hashable, tuple[float, float]] = {}
    estimates = []
    for cell in suite.cells:
        spec = cell.spec
        if shortfall := spec.shortfall():
            estimates.append(CellEstimate(cell, 0, 0.0, shortfall))
            continue
        batch_size = min(spec.batch_size or spec.num_examples, spec.num_examples)
        parts = [(getattr(spec, kind), *spec.options_of(kind).items()) for kind in TIMED]
        key = (batch_size, spec.part("dataset").INFO.image_shape, spec.clip_norm, *parts)
        if key not in speeds:
            try:
                speeds[key] = _seconds_per_example(spec, batch_size)
            except RunError as error:
                raise SuiteError(f"{cell.label} cannot be trained: {error}") from None
            except Exception as error:
                raise SuiteError(
                    f"model {spec.model} cannot be trained: {last_line(error, spec.component('model').file)}"
                ) from None
        estimates.append(_estimate_cell(cell, *speeds[key]))
    return estimates


def _estimate_cell(cell: Cell, train_seconds: float, test_seconds: float) -> CellEstimate:
    spec = cell.spec
    evaluated = spec.rounds * evaluated_in_a_round(spec) + evaluated_at_the_end(spec)
    of_run = spec.rounds * trained_in_a_round(spec) * train_seconds + evaluated * test_seconds + TRACKING_SECONDS
    return CellEstimate(cell, spec.local_steps() * len(cell.seeds), of_run * len(cell.seeds), None)


def _seconds_per_example(spec: CellSpec, batch_size: int) -> tuple[float, float]:
    """Seconds for one example in training and in evaluation, measured on random inputs."""
    model = FlatModel(spec.build_model())
    info = spec.part("dataset").INFO
    number = max(TIMED_EXAMPLES // batch_size, 1) * batch_size  # no smaller batch, on which BatchNorm may fail
    size = (number, *info.image_shape)
    inputs = torch.randn(size) if info.dtype == "float32" else torch.zeros(size, dtype=getattr(torch, info.dtype))
    data = ClientData(inputs, torch.zeros(len(inputs), dtype=torch.int64))
    order = numpy_stream(0, Purpose.BATCH_ORDER)
    augment = partial(augmented, spec.augment, torch.Generator()) if spec.augment else None
    more = {"optimiser": spec.part("optimiser"), "clip_norm": spec.clip_norm, "augment": augment}
    client_update(model, data, 1, batch_size, 1e-3, order, **more)  # warm-up
    start = time.perf_counter()
    client_update(model, data, 1, batch_size, 1e-3, order, **more)
    trained = time.perf_counter()
    evaluate(model.module, data.inputs, data.labels)
    return (trained - start) / len(data), (time.perf_counter() - trained) / len(data)
