"""Layers that several models share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

BITS = 24  # of a float32's precision


class Linear(nn.Linear):
    """`torch.nn.Linear` whose initial parameters are the same bits on every processor."""

    def reset_parameters(self) -> None:
        """Draw the parameters."""
        _draw(self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` whose initial parameters are the same bits on every processor."""

    def reset_parameters(self) -> None:
        """Draw the parameters."""
        _draw(self.weight, self.bias)


@torch.no_grad()
def _draw(weight: Tensor, *more: Tensor | None) -> None:
    """Draw from PyTorch's distribution: uniform within ±1/√fan_in, from integers of the global random state."""
    bound = 1 / math.sqrt(weight[0].numel())
    for parameter in (weight, *more):
        if parameter is not None:
            integers = torch.randint(-(1 << BITS - 1), 1 << BITS - 1, parameter.shape)
            parameter.copy_(integers.float() * (bound / (1 << BITS - 1)))  # one rounding


def pooled_relu(x: Tensor, convolution: nn.Conv2d, size: int = 2) -> Tensor:
    """Convolution, size x size max-pooling and ReLU, in the layout that is fastest on a CPU.

    Pooling a narrow image (10 channels, say) is slow in both of PyTorch's own layouts. oneDNN's blocked layout is
    faster, and so are forward convolutions in it; the gradient for `x` is not, so an `x` that needs one stays as it is.
    The numbers are those of ``relu(max_pool2d(convolution(x), size))`` up to the order of the convolution's sums.

    Parameters
    ----------
    x
        (B, C, H, W).
    convolution
        Its input has C channels.
    size
        Height, width and stride of the pooling.

    Returns
    -------
    Tensor
        (B, C', H', W').
    """
    if _is_faster_blocked(x):
        return torch.relu(F.max_pool2d(convolution(x.contiguous().to_mkldnn()), size, size)).to_dense()
    return torch.relu(F.max_pool2d(convolution(x), size))


def _is_faster_blocked(x: Tensor) -> bool:
    needs_gradient = x.requires_grad and torch.is_grad_enabled()
    if needs_gradient or x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
