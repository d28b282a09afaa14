"""The paper's 2NN: two hidden layers of 200 units, 199,210 parameters (McMahan et al., 2017, section 3)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fedbench.kernels import Chain
from fedbench.models.layers import Linear


class TwoNN(nn.Module):
    """A multilayer perceptron with two hidden layers of 200 ReLU units.

    (B, 1, 28, 28) float32 -> (B, 10) logits.
    """

    chain: ClassVar = Chain((1, 28, 28), units=(200, 200, 10))

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = Linear(784, 200)
        self.fc2 = Linear(200, 200)
        self.fc3 = Linear(200, 10)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = torch.relu(self.fc1(x.flatten(1)))  # (B, 200)
        x = torch.relu(self.fc2(x))  # (B, 200)
        output: Tensor = self.fc3(x)
        return output
