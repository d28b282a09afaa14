"""Layers that several models share."""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn


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
