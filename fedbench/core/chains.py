"""Models that the kernels compute."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fedbench.kernels import Chain, Kernels, kernels_for


def kernels_of(module: nn.Module) -> Kernels | None:
    """The kernels of a module whose class declares a `chain` with its `forward`; None where PyTorch computes."""
    chain = own_attribute(module, "chain")
    tensors = [*module.parameters(), *module.buffers()]
    if not isinstance(chain, Chain) or sum(each.numel() for each in tensors) != chain.num_parameters:
        return None
    if any(each.device.type != "cpu" or each.dtype != torch.float32 for each in tensors):
        return None
    return kernels_for(chain)


def can_compute(kernels: Kernels, inputs: Tensor, labels: Tensor) -> bool:
    """Whether the kernels take these examples; if not, PyTorch says what is wrong with them, or computes them."""
    shape, classes = kernels.chain.image_shape, kernels.chain.units[-1]
    is_image = inputs.shape[1:] == shape or (not kernels.chain.convolutions and inputs[0].numel() == math.prod(shape))
    are_theirs = all(each.device.type == "cpu" for each in (inputs, labels))
    are_typed = (inputs.dtype, labels.dtype) == (torch.float32, torch.int64)
    return is_image and are_theirs and are_typed and bool(labels.min() >= 0 and labels.max() < classes)


def flat_parameters(module: nn.Module) -> Tensor:
    """(P,) the parameters of a module as `FlatModel` lays them out."""
    return torch.cat([flattened(parameter) for parameter in module.parameters()])


def flattened(parameter: Tensor) -> Tensor:
    """A parameter as it is in a flat vector: a convolution's weights (O, I, H, W) in the order O, H, W, I."""
    return (parameter.permute(0, 2, 3, 1) if parameter.dim() == 4 else parameter).detach().reshape(-1)


def own_attribute(module: nn.Module, name: str) -> Any:
    """An attribute that the class declares which defines the module's `forward`; None if that one has none."""
    for each in type(module).__mro__:
        if names := vars(each).keys() & {"forward", name}:
            return getattr(module, name, None) if len(names) == 2 else None
    return None
