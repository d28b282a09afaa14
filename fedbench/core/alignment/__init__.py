"""Puts the units of models into one order before they are averaged, and repairs the average.

The order of a layer's units is arbitrary: a model with its channels and features in another order computes the same.
Models of different starts therefore have units that do not correspond, which is one reason why their average fails.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from fedbench.core.alignment.matching import (
    correlations_of,
    orders_by_activations,
    orders_by_weights,
    permute,
)
from fedbench.core.alignment.mean import AlignedMean, By
from fedbench.core.alignment.repair import moments_of, repair_in_place
from fedbench.core.alignment.units import Architecture
from fedbench.core.averaging import normalise_weights, require_equal_architectures

__all__ = ["AlignedMean", "Architecture", "By", "align", "correlations", "repair"]


def align(model: nn.Module, to: nn.Module, examples: Tensor, by: By = "weights") -> nn.Module:
    """A copy of a model with its units in the order of another's. It computes what the model does.

    Which units there are is found from the layers: convolutions and linear layers with what follows them.

    Parameters
    ----------
    model, to
        Models of one architecture. They are not changed.
    examples
        (N, ...) inputs. By weights only their shape and type are read.
    by
        ``weights``: the parameters of both become as near as can be found (Ainsworth, Hayase and Srinivasa, 2023,
        arXiv:2209.04836, algorithm 1). ``activations``: units correspond that correlate most on the examples.

    Raises
    ------
    ValueError
        If the architectures differ, `by` is another word, or a layer cannot be followed, which is named.
    """
    if by not in ("weights", "activations"):
        raise ValueError(f"by is {by!r}: choose weights or activations")
    require_equal_architectures([model, to])
    architecture = Architecture(model, examples)
    aligned, other = copy.deepcopy(model).eval(), copy.deepcopy(to).eval()
    if by == "weights":
        orders = orders_by_weights(architecture.units, aligned, other)
    else:
        orders = orders_by_activations(architecture.program, architecture.units, aligned, other, examples)
    permute(aligned, architecture.units, orders)
    return aligned.train(model.training)


def repair(average: nn.Module, parents: Sequence[nn.Module], weights: Sequence[float], examples: Tensor) -> nn.Module:
    """REPAIR: a copy of an average whose units have the mean and the standard deviation that they have in its parents.

    Layer by layer each unit is rescaled, before the nonlinearity, so that its mean and its standard deviation on the
    examples are the weighted means of those in the parents. The statistics of BatchNorm are measured anew instead.
    Jordan, Sedghi, Saukh, Entezari and Neyshabur (2023), arXiv:2211.08403.

    Parameters
    ----------
    average
        The average of `parents`. It is not changed.
    parents
        The models averaged, their units in one order: see `align`.
    weights
        One a parent, finite, not negative, not all zero.
    examples
        (N, ...) inputs, which all are in memory with their activations at once.

    Raises
    ------
    ValueError
        If the architectures differ, the weights are unusable, or a layer shares its weights or cannot be followed.
    """
    if len(parents) != len(weights):
        raise ValueError(f"there are {len(parents)} models but {len(weights)} weights")
    shares = normalise_weights(weights)
    require_equal_architectures([average, *parents])
    repaired = copy.deepcopy(average).eval()
    program = Architecture(average, examples).program
    moments = [moments_of(program, copy.deepcopy(parent).eval(), examples) for parent in parents]
    repair_in_place(program, repaired, moments, shares, examples)
    return repaired.train(average.training)


def correlations(
    model: nn.Module, other: nn.Module, examples: Tensor, architecture: Architecture | None = None
) -> dict[str, Tensor]:
    """By hidden layer (n, n): the correlation of each unit of `model` with each of `other`, over examples and space.

    Units are measured where the next layer reads them. One that is constant correlates with nothing: 0.

    Parameters
    ----------
    model, other
        Models of one architecture.
    examples
        (N, ...) inputs.
    architecture
        The models', if it is known: finding it takes longer than all the rest.
    """
    require_equal_architectures([model, other])
    architecture = architecture or Architecture(model, examples)
    one, another = (copy.deepcopy(each).eval() for each in (model, other))
    found = correlations_of(architecture.program, architecture.units, one, another, examples)
    return {units.layer: each for units, each in zip(architecture.units, found, strict=True)}
