"""Which unit of one model corresponds to which of another: by their weights, or by their activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import Node

from fedbench.core.alignment.program import Program, named_tensors, observe
from fedbench.core.alignment.units import Units

MAX_SWEEPS = 100
MANTISSA = 53  # bits of a double's precision
BATCH_SIZE = 250
Order = NDArray[np.int64]  # which unit comes at each place
Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats, float]  # parameters of two models, see `_rounded`


def orders_by_weights(units: Sequence[Units], model: nn.Module, to: nn.Module) -> list[Order]:
    """The orders of `model`'s units in which its parameters are nearest to those of `to`.

    Weight matching, algorithm 1 of Ainsworth, Hayase and Srinivasa (2023), arXiv:2209.04836: the best order of one
    layer's units while the others' stay, layer by layer, until none changes. Here the layers are visited in their
    order, from two starts, of which the better result counts: as the model is, and with a first visit of each layer
    that goes only by those weights that connect it with layers visited before. The second restores a permuted copy
    exactly, unless units have equal weights.

    The result is the same on every processor: weights are rounded to integers so small that double precision has the
    sums of their products exactly, in whatever order they are added.
    """
    parameters, others = dict(model.named_parameters(remove_duplicate=False)), named_tensors(to)
    names = dict.fromkeys(place.name for each in units for place in each.places if place.name in parameters)
    rounded = {name: _rounded(others[name], parameters[name]) for name in names}
    found = [_descend(units, dict(rounded), goes_forward) for goes_forward in (False, True)]
    return max(found, key=lambda each: each[0])[1]


def _descend(units: Sequence[Units], pairs: dict[str, Pair], goes_forward: bool) -> tuple[float, list[Order]]:
    """How similar the parameters become, and the orders; the second of each of `pairs` is permuted."""
    members = {
        name: [i for i, each in enumerate(units) for place in each.places if place.name == name] for name in pairs
    }
    orders = [np.arange(each.size) for each in units]
    is_first = goes_forward
    for _ in range(MAX_SWEEPS):
        is_changed = False
        for index, each in enumerate(units):
            places = [place for place in each.places if place.name in pairs]
            similarity = np.zeros((each.size, each.size))
            for place in places:
                if not is_first or _is_settled(members[place.name], index):
                    wanted, own, scale = pairs[place.name]
                    similarity += scale * (_by_unit(wanted, each, place.right) @ _by_unit(own, each, place.right).T)
            if (order := best_order(similarity)) is not None:
                is_changed = True
                orders[index] = orders[index][order]
                for place in places:
                    wanted, own, scale = pairs[place.name]
                    pairs[place.name] = wanted, permuted(own, each.size, place.right, order), scale
        if not is_changed and not is_first:
            break
        is_first = False
    return math.fsum(scale * float(np.vdot(wanted, own)) for wanted, own, scale in pairs.values()), orders


def _is_settled(members: Sequence[int], index: int) -> bool:
    """Whether all units of a parameter but one have been visited before those of this index."""
    return members.count(index) == 1 and max(members) == index


def _rounded(one: Tensor, other: Tensor) -> Pair:
    """Two tensors as integers, and the square of what 1 stands for; zeros if one is not finite."""
    first, second = (each.detach().double().cpu().contiguous().numpy() for each in (one, other))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return np.zeros_like(first), np.zeros_like(second), 0.0
    largest = max(float(np.abs(each).max(initial=0.0)) for each in (first, second))
    exponent = (MANTISSA - first.size.bit_length()) // 2 - math.frexp(largest)[1]
    return np.rint(np.ldexp(first, exponent)), np.rint(np.ldexp(second, exponent)), math.ldexp(1.0, -2 * exponent)


def _by_unit(tensor: Floats, units: Units, right: int) -> Floats:
    """(n, D): a row for each unit."""
    return np.moveaxis(tensor.reshape(-1, units.size, right), 1, 0).reshape(units.size, -1)


def best_order(similarity: Floats) -> Order | None:
    """The order of the columns in which the diagonal has the largest sum; None if it has that as it is."""
    from scipy.optimize import linear_sum_assignment

    rows, order = linear_sum_assignment(similarity, maximize=True)
    gain = math.fsum([*similarity[rows, order], *-similarity.diagonal()])
    return order if gain > 0 else None


def permuted(tensor: Any, size: int, right: int, order: Order) -> Any:
    """A tensor or an array with its units in another order."""
    return tensor.reshape(-1, size, right)[:, order].reshape(tensor.shape)


@torch.no_grad()
def permute(model: nn.Module, units: Sequence[Units], orders: Sequence[Order]) -> None:
    """Put a model's units in other orders, in place."""
    tensors = named_tensors(model)
    for each, order in zip(units, orders, strict=True):
        for place in each.places:
            tensor = tensors[place.name]
            tensor.copy_(permuted(tensor, each.size, place.right, order))


def orders_by_activations(
    program: Program, units: Sequence[Units], model: nn.Module, to: nn.Module, inputs: Tensor
) -> list[Order]:
    """The orders of `model`'s units in which they correlate most with those of `to`.

    Activation matching as in Li et al. (2016), arXiv:1511.07543, and section 3.1 of Ainsworth, Hayase and Srinivasa
    (2023), for each layer by itself.
    """
    found = correlations_of(program, units, to, model, inputs)
    orders = (best_order(each.numpy()) for each in found)
    return [np.arange(each.size) if order is None else order for each, order in zip(units, orders, strict=True)]


def correlations_of(
    program: Program, units: Sequence[Units], model: nn.Module, other: nn.Module, inputs: Tensor
) -> list[Tensor]:
    """For each of `units` (n, n) the correlation of `model`'s with `other`'s, over examples and positions.

    They are measured where the next layer reads them; of units that several layers read, the mean over these. A unit
    that is constant correlates with nothing.
    """
    rights = {node: (each.size, right) for each in units for node, right in each.activations}

    def by_unit(node: Node, output: Tensor) -> Tensor | None:  # (n, B)
        if node not in rights:
            return None
        size, right = rights[node]
        return output.reshape(-1, size, right).movedim(1, 0).reshape(size, -1).double()

    sums: dict[Node, Tensor] = {}
    for batch in torch.split(inputs, BATCH_SIZE):
        pair = [observe(program, each, batch, by_unit) for each in (model, other)]
        for node in rights:
            both = torch.cat([pair[0][node], pair[1][node], torch.ones_like(pair[0][node][:1])])  # (2n + 1, B)
            sums[node] = sums.get(node, 0) + both @ both.T
    found = []
    for each in units:
        of_nodes = [_correlation(sums[node]) for node, _ in each.activations] or [torch.zeros(each.size, each.size)]
        found.append(torch.stack(of_nodes).mean(dim=0))
    return found


def _correlation(products: Tensor) -> Tensor:
    """From sums of products of (first n, other n, 1) over examples."""
    mean, n = products[:-1, -1] / products[-1, -1], len(products) // 2
    covariance = products[:-1, :-1] / products[-1, -1] - torch.outer(mean, mean)
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    return (covariance / torch.outer(deviation, deviation)).nan_to_num(0, 0, 0)[:n, n:].cpu()
