"""The paper's 2NN with other initial models, for ``paper_inputs.yaml``."""

from __future__ import annotations

from typing import Literal

from torch import nn

from fedbench.models.two_nn import TwoNN


def two_nn(drawn: Literal["pytorch", "glorot", "normal"] = "pytorch") -> nn.Module:
    """A 2NN.

    Parameters
    ----------
    drawn
        How its weights are drawn: as PyTorch does; by Glorot's rule, with biases of 0; or from the normal distribution
        of deviation 0.1, truncated at two, with biases of 0.1, as in TensorFlow's MNIST tutorial of 2015.
    """
    model = TwoNN()
    for layer in model.children() if drawn != "pytorch" else ():
        if drawn == "glorot":
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
        nn.init.constant_(layer.bias, 0.0 if drawn == "glorot" else 0.1)
    return model
