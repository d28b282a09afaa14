"""The study's network for 28x28 grey images: 21,840 parameters, 0.96 MFLOP an image forward."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fedbench.kernels import Chain
from fedbench.models.layers import Conv2d, Linear, pooled_relu


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions, each with 2x2 max-pooling and ReLU, then two dense layers.

    (B, 1, 28, 28) float32 -> (B, 10) log-probabilities.
    """

    chain: ClassVar = Chain((1, 28, 28), convolutions=((10, 0), (20, 0)), units=(50, 10))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d(1, 10, kernel_size=5)
        self.conv2 = Conv2d(10, 20, kernel_size=5)
        self.fc1 = Linear(320, 50)
        self.fc2 = Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = pooled_relu(x, self.conv1)  # (B, 10, 12, 12)
        x = pooled_relu(x, self.conv2)  # (B, 20, 4, 4)
        x = torch.relu(self.fc1(x.flatten(1)))  # (B, 50)
        return torch.log_softmax(self.fc2(x), dim=1)
