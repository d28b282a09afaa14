"""REPAIR: the statistics of an average's units are set to what they are in the models averaged.

Jordan, Sedghi, Saukh, Entezari and Neyshabur (2023), arXiv:2211.08403: on the line between two models the variance of
the units collapses, the more, the deeper the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from fedbench.core.alignment.program import Program, Watcher, layer_of, named_tensors, observe, operator_of
from fedbench.core.alignment.units import LAYERS
from fedbench.util.errors import RunError

Moments = dict[Node, tuple[Tensor, Tensor]]  # (C,) the mean and the standard deviation of each unit, by layer


def repair_in_place(
    program: Program, average: nn.Module, moments: Sequence[Moments], shares: Sequence[float], inputs: Tensor
) -> None:
    """Rescale the units of `average`, layer by layer, each layer seeing what the repaired ones before it give.

    `moments` and `shares` are those of the models averaged.
    """
    wanted = {
        node: tuple(
            sum(share * each[node][part] for share, each in zip(shares, moments, strict=True)) for part in (0, 1)
        )
        for node in moments[0]
    }
    _Repair(program, wanted, average).watch(average, inputs)


def moments_of(program: Program, model: nn.Module, inputs: Tensor) -> Moments:
    """Those of each layer, before the nonlinearity, by its node."""
    return observe(program, model, inputs, lambda node, output: _moments(node, output) if _is_repaired(node) else None)


class _Repair(Watcher):
    def __init__(self, program: Program, wanted: dict[Node, Any], model: nn.Module) -> None:
        super().__init__(program)
        self._wanted = wanted
        self._names = program.names()
        self._tensors = named_tensors(model)

    def run_node(self, n: Node) -> Any:
        """Run a node; first set BatchNorm's statistics, afterwards rescale a layer."""
        if operator_of(n) == "batch_norm":
            x, _, _, mean, variance, *_ = self.fetch_args_kwargs_from_env(n)[0]
            if mean is not None:
                of_channels = x.transpose(0, 1).flatten(1).double()
                mean.copy_(of_channels.mean(dim=1))
                variance.copy_(of_channels.var(dim=1))
        result = super().run_node(n)
        if n not in self._wanted:
            return result
        mean, deviation = _moments(n, result)
        target_mean, target_deviation = self._wanted[n]
        scale = torch.where(deviation > 0, target_deviation / deviation, 1.0)
        weight, bias = self._own(n)
        weight.copy_((weight.double().transpose(0, -1) * scale).transpose(0, -1))
        shift = target_mean - mean * scale if bias is not None else torch.zeros_like(mean)
        if bias is not None:
            bias.copy_(bias.double() * scale + shift)
        dim = _channel(n)
        shape = [-1 if position == dim % result.dim() else 1 for position in range(result.dim())]
        return (result * scale.view(shape) + shift.view(shape)).to(result.dtype)

    def _own(self, node: Node) -> tuple[Tensor, Tensor | None]:
        """A layer's weight and bias, which nothing else has."""
        nodes = [each for each in node.args[1:3] if isinstance(each, Node)]
        if any(each not in self._names or len(each.users) > 1 for each in nodes):
            raise RunError(f"repair: layer {layer_of(node)!r} shares its weights or computes them; set repair to false")
        weight, *bias = (self._tensors[self._names[each]] for each in nodes)
        return weight, (bias[0] if bias else None)


def _is_repaired(node: Node) -> bool:
    """Whether a node is a layer that no BatchNorm follows, which would undo it."""
    return operator_of(node) in LAYERS and not any(operator_of(user) == "batch_norm" for user in node.users)


def _channel(node: Node) -> int:
    return -1 if operator_of(node) == "linear" else 1


def _moments(node: Node, output: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) the mean and the standard deviation of each channel of a layer's output."""
    by_channel = output.movedim(_channel(node), 0).flatten(1).double()
    return by_channel.mean(dim=1), by_channel.std(dim=1, correction=0)
