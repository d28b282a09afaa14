"""The study's network for 32x32 colour images of skin lesions: 111,015 parameters."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fedbench.kernels import Chain
from fedbench.models.layers import Conv2d, Linear, pooled_relu


class SimpleCNNHam(nn.Module):
    """Two 5x5 convolutions, each with 2x2 max-pooling and ReLU, then two dense layers.

    (B, 3, 32, 32) float32 -> (B, 7) log-probabilities.
    """

    chain: ClassVar = Chain((3, 32, 32), convolutions=((16, 0), (32, 0)), units=(120, 7))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, 16, kernel_size=5)
        self.conv2 = Conv2d(16, 32, kernel_size=5)
        self.fc1 = Linear(800, 120)
        self.fc2 = Linear(120, 7)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = pooled_relu(x, self.conv1)  # (B, 16, 14, 14)
        x = pooled_relu(x, self.conv2)  # (B, 32, 5, 5)
        x = torch.relu(self.fc1(x.flatten(1)))  # (B, 120)
        return torch.log_softmax(self.fc2(x), dim=1)
