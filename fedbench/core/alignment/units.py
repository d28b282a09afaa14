"""Which units a model may have in another order without computing anything else, found from its layers.

The units of a layer, its channels or features, can be permuted if all that reads them is permuted alike: the next
layer's weights, the statistics of BatchNorm. Layers whose outputs are added have the same order.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from fedbench.core.alignment.axes import (
    Axis,
    Dimension,
    Dimensions,
    dimension,
    dimensions,
    factors,
    fix,
    reshape,
    unite,
)
from fedbench.core.alignment.program import Program, Watcher, layer_of, operator_of
from fedbench.util.errors import RunError


@dataclass(frozen=True)
class Place:
    """Where units are in a parameter or buffer: it is ``tensor.reshape(-1, size, right)[:, unit]``."""

    name: str
    right: int


@dataclass(frozen=True)
class Units:
    """Units that are permuted together.

    `layer` is the first layer that has them. `activations` are the nodes that give them to the next layers, after
    nonlinearity and pooling, with `Place.right` there.
    """

    layer: str
    size: int
    places: tuple[Place, ...]
    activations: tuple[tuple[Node, int], ...]


class Architecture:
    """The units of a model and of all others like it: the `program`, and the `units`, in the order of the layers.

    The model is not changed; of the inputs (N, ...) the shape and the type are read. Raises `RunError` if a layer
    cannot be followed: one line with its name.
    """

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        self.program = Program(model, inputs)
        follower = _Follower(self.program)
        follower.watch(model, self.program.zeros)
        self.units = follower.units()


class _Follower(Watcher):
    """Follows units through a program: runs it, and finds the dimensions of all that it computes."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._names = program.names()
        self._found: dict[Node, Dimensions] = {}
        self._of_tensors: dict[int, Dimensions] = {}  # a tensor that the model has twice has the same dimensions

    def run_node(self, n: Node) -> Any:
        """Run a node, and find the dimensions of its result."""
        result = super().run_node(n)
        if n.op == "placeholder":
            is_fixed = n not in self._names or not result.is_floating_point()
            if n.users:
                self._found[n] = self._of_tensors.setdefault(id(result), dimensions(result.shape, is_fixed))
        elif n.op == "output":
            fix(axis for each in n.all_input_nodes for axes in self._found[each] for axis in axes)
        else:
            try:
                self._found[n] = self._follow(n, result)
            except ValueError as error:
                name, operator = layer_of(n), operator_of(n) or n.target
                where = f"layer {name!r}" if name else "the model's forward"
                raise RunError(f"units cannot be followed through {operator} in {where}: {error}") from None
        return result

    def _follow(self, node: Node, result: Any) -> Dimensions:
        given = [axis for each in node.all_input_nodes for axes in self._found.get(each, ()) for axis in axes]
        if all(axis.is_fixed for axis in given):
            return dimensions(result.shape, is_fixed=True) if isinstance(result, Tensor) else ()
        if isinstance(result, int | torch.SymInt | None):
            return ()  # a size
        if node.target is operator.getitem:
            return self._found[node.all_input_nodes[0]]
        rule = next((rule for pattern, rule in RULES.items() if re.fullmatch(pattern, operator_of(node))), None)
        if rule is _spatial and isinstance(result, tuple):
            result = result[0]  # the others are places, of the same shape
        if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
            rule = _elementwise
        if rule is None or not isinstance(result, Tensor):
            raise ValueError("there is no rule for it")
        found: Any = self._found
        arguments, named = map_arg((node.args, node.kwargs), lambda each: found[each])
        return rule(result, *arguments, **named)

    def units(self) -> tuple[Units, ...]:
        """What is free to be permuted, once all has been followed, in the order of the layers."""
        layers: dict[Axis, str] = {}
        places: dict[Axis, dict[Place, None]] = {}
        read: dict[Axis, dict[tuple[Node, int], None]] = {}
        for node, found in self._found.items():
            if node in self._names:
                for axis, right in _free(found):
                    places.setdefault(axis, {})[Place(self._names[node], right)] = None
            elif operator_of(node) in LAYERS:
                for axis, _ in _free(found):
                    layers.setdefault(axis, layer_of(node))
                for axis, right in _free(self._found[node.all_input_nodes[0]]):
                    read.setdefault(axis, {})[node.all_input_nodes[0], right] = None
        return tuple(
            Units(layer, axis.size, tuple(places[axis]), tuple(read.get(axis, ()))) for axis, layer in layers.items()
        )


def _free(found: Dimensions) -> Iterator[tuple[Axis, int]]:
    """The axes of a tensor that can be permuted, and how many components follow each."""
    axes = factors(axis for each in found for axis in each)
    for position, axis in enumerate(axes):
        if not axis.is_fixed:
            yield axis, _size(axes[position + 1 :])


# The rules: the dimensions of an operator's result from those of its arguments; what is no tensor is given as it is.


def _convolution(
    out: Tensor, x: Dimensions, weight: Dimensions, bias: Dimensions | None = None, *more: Any
) -> Dimensions:
    """With groups of channels, these are permuted whole, and the channels in them alike."""
    groups = dimension(more[3]) if len(more) > 3 else ()
    unite(x[1], (*groups, *weight[1]))
    unite(weight[0], (*groups, *dimension(out.shape[1] // (more[3] if len(more) > 3 else 1))))
    fix(axis for axes in (*x[2:], *weight[2:]) for axis in axes)
    if bias is not None:
        unite(bias[0], weight[0])
    return (x[0], weight[0], *dimensions(out.shape[2:], is_fixed=True))


def _linear(_: Tensor, x: Dimensions, weight: Dimensions, bias: Dimensions | None = None) -> Dimensions:
    unite(x[-1], weight[1])
    if bias is not None:
        unite(bias[0], weight[0])
    return (*x[:-1], weight[0])


def _normalisation(_: Tensor, x: Dimensions, *more: Any) -> Dimensions:
    """By channel: weight, bias, and perhaps mean and variance."""
    for each in more[:4]:
        if isinstance(each, tuple):
            unite(each[0], x[1])
    return x


def _group_normalisation(_: Tensor, x: Dimensions, groups: int, *more: Any) -> Dimensions:
    unite(x[1], (*dimension(groups), *dimension(_size(x[1]) // groups)))
    return _normalisation(_, x, *more)


def _layer_normalisation(_: Tensor, x: Dimensions, shape: Any, *more: Any) -> Dimensions:
    for each in more[:2]:  # weight and bias
        for axes, own in zip(each or (), x[-len(shape) :], strict=False):
            unite(axes, own)
    return x


def _elementwise(out: Tensor, *arguments: Any, **_: Any) -> Dimensions:
    """Of tensors that are broadcast."""
    found = list(dimensions(out.shape, is_fixed=True))
    tensors = [each for each in arguments if isinstance(each, tuple)]
    for position, size in enumerate(reversed(out.shape), start=1):
        same = [each[-position] for each in tensors if len(each) >= position and _size(each[-position]) == size]
        for each in same[1:]:
            unite(each, same[0])
        if same:
            found[-position] = same[0]
    return tuple(found)


def _prelu(_: Tensor, x: Dimensions, weight: Dimensions) -> Dimensions:
    if weight[0]:
        unite(weight[0], x[1])
    return x


def _same(_: Tensor, x: Dimensions, *__: Any, **___: Any) -> Dimensions:
    return x


def _spatial(out: Tensor, x: Dimensions, *_: Any, **__: Any) -> Dimensions:
    """Pooling, and what else computes from neighbours, by channel."""
    fix(axis for axes in x[2:] for axis in axes)
    return (*x[:2], *dimensions(out.shape[2:], is_fixed=True))


def _reduction(out: Tensor, x: Dimensions, over: Any = None, *_: Any, **__: Any) -> Dimensions:
    """Of the same value in whatever order."""
    gone = range(len(x)) if over is None else [each % len(x) for each in ([over] if isinstance(over, int) else over)]
    if out.dim() == len(x):
        return tuple(() if position in gone else axes for position, axes in enumerate(x))
    return tuple(axes for position, axes in enumerate(x) if position not in gone)


def _reshape(out: Tensor, x: Dimensions, *_: Any, **__: Any) -> Dimensions:
    return reshape(x, out.shape)


def _permute(_: Tensor, x: Dimensions, order: Any) -> Dimensions:
    return tuple(x[position] for position in order)


def _transpose(_: Tensor, x: Dimensions, one: int = 0, other: int = 1) -> Dimensions:
    order = list(x)
    order[one], order[other] = x[other], x[one]
    return tuple(order)


LAYERS = ("conv1d", "conv2d", "conv3d", "linear")
RULES: dict[str, Callable[..., Dimensions]] = {
    r"conv[123]d": _convolution,
    r"linear": _linear,
    r"batch_norm|instance_norm": _normalisation,
    r"group_norm": _group_normalisation,
    r"layer_norm": _layer_normalisation,
    r"prelu": _prelu,
    r"(feature_|alpha_|feature_alpha_)?dropout|(log_)?softmax|to|contiguous|detach|alias|hardswish|log_sigmoid": _same,
    r"(adaptive_)?(avg|max)_pool[123]d|upsample_\w+": _spatial,
    r"mean|sum|amax|amin": _reduction,
    r"(_unsafe_)?view|reshape|(un)?flatten|(un)?squeeze": _reshape,
    r"permute": _permute,
    r"transpose|t": _transpose,
    r"expand": _elementwise,
}


def _size(axes: Dimension) -> int:
    return math.prod(axis.size for axis in axes)
