"""What is measured of a round whose models were aligned: the plain average, lines between two models, their units."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from fedbench.core import (
    Architecture,
    FlatModel,
    ModelState,
    RoundResult,
    WeightedMean,
    correlations,
    interpolate,
    model_with,
    normalise_weights,
)
from fedbench.core.alignment.repair import moments_of, repair_in_place
from fedbench.measures import (
    AVERAGING_GAIN,
    BARRIER,
    CLIENT_ACCURACY,
    PLAIN_ACCURACY,
    PLAIN_GAIN,
    RECOVERED,
    Line,
    barrier,
    recovered,
)
from fedbench.runs.metrics import ClientModels, Measure, between

THETAS = tuple(step / 10 for step in range(11))  # of the lines that are drawn for comparison
PLAIN, REPAIRED = "plain_", "repaired_"  # which line
BEFORE, AFTER = "before", "after"  # the alignment
CORRELATED = 1_000  # test images that units are compared on
MAX_UNITS = 64  # of a layer, whose correlations are recorded

Correlations = dict[str, dict[str, Tensor]]  # by layer, `BEFORE` and `AFTER`


def plain_metrics(
    result: RoundResult,
    own: ClientModels,
    weights: Sequence[int],
    average_frozen: bool,
    measure: Measure,
    metrics: Mapping[str, float],
) -> dict[str, float]:
    """How good the weighted mean of the clients' models would have been, and what the average of aligned ones recovers.

    `weights` are in the order of the clients, `metrics` the round's, with those of the clients; for `average_frozen`
    see `fedbench.core.fedavg`.
    """
    mean, model = WeightedMean(), FlatModel(copy.deepcopy(result.model))
    size = len(model.vector) - (0 if average_frozen else model.num_frozen)
    for update, share in zip(own.updates, normalise_weights(weights), strict=True):
        mean.add(update.state.head(size), share)
    model.load(mean.state())
    plain = measure(model.module)
    alone = [value for name, value in metrics.items() if name.startswith(CLIENT_ACCURACY)]
    plain_gain = plain.accuracy - sum(alone) / len(alone)
    found = {PLAIN_ACCURACY: plain.accuracy, PLAIN_GAIN: plain_gain}
    part = recovered(metrics[AVERAGING_GAIN], plain_gain, plain.accuracy, plain.num_examples)
    return found if part is None else found | {RECOVERED: part}


def lines_for_comparison(
    result: RoundResult, own: ClientModels, measure: Measure, architecture: Architecture, repairs_with: Tensor | None
) -> dict[str, Line]:
    """The lines between two clients' models as they are, and between the aligned ones with each model repaired.

    `repairs_with` are the examples for that; with None no model is repaired.
    """
    plain = between(_models([update.state for update in own.updates], result.model), measure, THETAS)
    lines = {PLAIN: plain}
    if repairs_with is not None:
        aligned = _models(result.aligned, result.model)
        program = architecture.program
        moments = [moments_of(program, model, repairs_with) for model in aligned]

        def repaired(first: nn.Module, second: nn.Module, theta: float) -> nn.Module:
            average = interpolate(first, second, theta)
            repair_in_place(program, average, moments, (theta, 1 - theta), repairs_with)
            return average

        lines[REPAIRED] = (plain[0], *between(aligned, measure, THETAS[1:-1], repaired), plain[-1])
    return lines


def barriers(lines: Mapping[str, Line]) -> dict[str, float]:
    """The metric of each line's barrier, where it has one."""
    heights = {f"{name}{BARRIER}": barrier(line) for name, line in lines.items()}
    return {name: height for name, height in heights.items() if height is not None}


def unit_correlations(
    result: RoundResult, own: ClientModels, architecture: Architecture, inputs: Tensor
) -> Correlations:
    """The correlation of each unit of the first client's model with each of the second's, by layer.

    Both `BEFORE` and `AFTER` the models were aligned, (n, n), on the first of the inputs; of a layer with more than
    `MAX_UNITS` units, of the first ones.
    """
    states = {BEFORE: [update.state for update in own.updates], AFTER: result.aligned}
    found: Correlations = {}
    for when, pair in states.items():
        models = _models(pair, result.model)
        for layer, matrix in correlations(*models, inputs[:CORRELATED], architecture).items():
            found.setdefault(layer, {})[when] = matrix[:MAX_UNITS, :MAX_UNITS].clone()
    return found


def _models(states: Sequence[ModelState], like: nn.Module) -> tuple[nn.Module, nn.Module]:
    first, second = (model_with(state, like).eval() for state in states)
    return first, second
