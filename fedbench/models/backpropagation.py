"""A backward pass without autograd, whose bookkeeping takes longer than the arithmetic of a small batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

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
    aten = torch.ops.aten
    activations = [inputs]
    for layer in layers[:-1]:
        activations.append(layer(activations[-1]).relu_())
    log_probabilities = torch.log_softmax(layers[-1](activations[-1]), 1)  # (B, C)
    loss: Tensor
    loss, weight = aten.nll_loss_forward(log_probabilities, labels, None, MEAN, NO_LABEL)

    of_loss = aten.nll_loss_backward(torch.ones_like(loss), log_probabilities, labels, None, MEAN, NO_LABEL, weight)
    gradient = aten._log_softmax_backward_data(of_loss, log_probabilities, 1, log_probabilities.dtype)
    for layer, x in zip(reversed(layers), reversed(activations), strict=True):
        torch.mm(gradient.t(), x, out=layer.weight.grad)
        torch.sum(gradient, 0, out=layer.bias.grad)
        if x is not inputs:
            gradient = aten.threshold_backward(torch.mm(gradient, layer.weight), x, 0)  # x is the output of a ReLU
    return loss
