"""A model whose state is one flat vector, so that a step, an average and a checkpoint are one operation each."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedbench.core.chains import kernels_of


@dataclass(frozen=True)
class ModelState:
    """The parameters and buffers of a model, detached from the module.

    Attributes
    ----------
    vector
        (D,) the parameters that are trained, then the buffers of the same floating type, then the frozen parameters:
        those that do not require gradients.
    counters
        The other buffers, such as BatchNorm's counter of batches.
    """

    vector: Tensor
    counters: tuple[Tensor, ...] = ()

    def head(self, size: int) -> ModelState:
        """The same state with the first `size` components of the vector alone, which are not copied."""
        return ModelState(self.vector[:size], self.counters)

    def to(self, device: torch.device) -> ModelState:
        """The same state on another device."""
        return ModelState(self.vector.to(device), tuple(counter.to(device) for counter in self.counters))


class FlatModel:
    """A module whose parameters, gradients and floating buffers are views of flat vectors.

    Convolution weights are laid out as ``channels_last``, which is the fast layout for images on a CPU. The module
    is changed in place: its values stay, their storage moves.

    Attributes
    ----------
    module
        The module.
    vector
        (D,) parameters that are trained, then floating buffers, then frozen parameters.
    parameters, gradients
        (P,) the head of `vector` that is trained, and its gradient, which is also ``parameters.grad``.
    num_frozen
        The number of components at the end of `vector` that are frozen: parameters that do not require gradients.
    kernels
        What computes it instead of PyTorch, if anything does.
    counters
        The buffers that are not floating, in the module's order.

    Raises
    ------
    ValueError
        If the module has no parameters that are trained, or parameters and floating buffers of several types.
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
        tensors = (*parameters, *buffers, *frozen)
        if not parameters:
            raise ValueError("the model has no parameters to train")
        if len(types := {tensor.dtype for tensor in tensors}) > 1:
            raise ValueError(f"the model's parameters and buffers must be of one type, not {sorted(map(str, types))}")

        self.module = module
        self._buffers = [(owner, *named) for owner in module.modules() for named in owner.named_buffers(recurse=False)]
        self.vector = parameters[0].detach().new_empty(sum(tensor.numel() for tensor in tensors))
        self.parameters = self.vector[: sum(parameter.numel() for parameter in parameters)]
        self.gradients = self.parameters.grad = torch.zeros_like(self.parameters)
        self.num_frozen = sum(parameter.numel() for parameter in frozen)
        self.kernels = None if frozen else kernels_of(module)
        self.counters = [buffer for buffer in module.buffers() if not buffer.is_floating_point()]
        with torch.no_grad():
            for tensor, view in zip(tensors, _views(self.vector, tensors), strict=True):
                tensor.data = view.copy_(tensor)
        for parameter, view in zip(parameters, _views(self.gradients, parameters), strict=True):
            parameter.grad = view

    @torch.no_grad()
    def descend(self, learning_rate: float) -> None:
        """One step of gradient descent: parameters ← parameters − learning_rate · gradients."""
        self.parameters.add_(self.gradients, alpha=-learning_rate)

    @torch.no_grad()
    def set_parameters(self, parameters: Tensor) -> None:
        """Set the parameters to those of a (P,) vector."""
        self.parameters.copy_(parameters)

    @torch.no_grad()
    def state(self) -> ModelState:
        """A copy of the model's state."""
        self._take_back_buffers()
        return ModelState(self.vector.clone(), tuple(counter.clone() for counter in self.counters))

    @torch.no_grad()
    def load(self, state: ModelState) -> None:
        """Set the model to `state`; what a `head` lacks stays as it is."""
        self._take_back_buffers()
        self.vector[: len(state.vector)].copy_(state.vector)
        for counter, value in zip(self.counters, state.counters, strict=True):
            counter.copy_(value)

    def _take_back_buffers(self) -> None:
        """Make buffers views again that the module has replaced, as in ``self.mean = 0.9 * self.mean + 0.1 * x``."""
        for owner, name, buffer in self._buffers:
            if (current := getattr(owner, name)) is not buffer:
                buffer.copy_(current)
                setattr(owner, name, buffer)


def model_with(state: ModelState, like: nn.Module) -> nn.Module:
    """A copy of the module `like` with the parameters and buffers of `state`."""
    copied = FlatModel(copy.deepcopy(like))
    copied.load(state)
    return copied.module


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor as float32, for sums, if its type has fewer bits, such as bfloat16; else the tensor itself."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize < torch.float32.itemsize else tensor


def _views(vector: Tensor, like: Sequence[Tensor]) -> Iterator[Tensor]:
    """Consecutive pieces of `vector`, each with the shape of a tensor of `like`."""
    start = 0
    for tensor in like:
        piece = vector[start : start + tensor.numel()]
        start += tensor.numel()
        if tensor.dim() == 4:  # (O, I, H, W), stored as O, H, W, I
            out_channels, in_channels, height, width = tensor.shape
            yield piece.view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)
        else:
            yield piece.view(tensor.shape)
