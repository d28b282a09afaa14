"""A backward pass without autograd, whose bookkeeping takes longer than the arithmetic of a small batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

aten = torch.ops.aten

MEAN = 1  # PyTorch's number of the reduction
NO_LABEL = -100  # PyTorch's default of a label that does not count


@torch.no_grad()
def backpropagate_dense(layers: Sequence[nn.Linear], inputs: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of dense layers with ReLU between them; sets the ``.grad`` of their parameters.

    It calls the operators that autograd calls, in its order, so that the bits are the same.

    Parameters
    ----------
    layers
        From D features to C classes, with biases.
    inputs
        (B, D).
    labels
        (B,) int64.
    """
    parameters = [(layer.weight, layer.bias) for layer in layers]
    activations = [inputs]
    for weight, bias in parameters[:-1]:
        activations.append(F.linear(activations[-1], weight, bias).relu_())
    log_probabilities = torch.log_softmax(F.linear(activations[-1], *parameters[-1]), 1)  # (B, C)
    loss: Tensor
    loss, total = aten.nll_loss_forward.default(log_probabilities, labels, None, MEAN, NO_LABEL)

    of_loss = torch.ones_like(loss)
    gradient = aten.nll_loss_backward.default(of_loss, log_probabilities, labels, None, MEAN, NO_LABEL, total)
    gradient = aten._log_softmax_backward_data.default(gradient, log_probabilities, 1, gradient.dtype)
    for (weight, bias), x in zip(reversed(parameters), reversed(activations), strict=True):
        torch.mm(gradient.t(), x, out=weight.grad)
        torch.sum(gradient, 0, out=bias.grad)
        if x is not inputs:  # but the output of a ReLU
            gradient = aten.threshold_backward.default(torch.mm(gradient, weight), x, 0)
    return loss
