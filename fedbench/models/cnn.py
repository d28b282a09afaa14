"""The paper's CNN: two 5x5 convolutions and 512 units, 1,663,370 parameters (McMahan et al., 2017, section 3).

The paper leaves the padding open; its number of parameters is that of convolutions that keep the image's size.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fedbench.kernels import Chain
from fedbench.models.layers import Conv2d, Linear, pooled_relu


class CNN(nn.Module):
    """5x5 convolutions of 32 and 64 channels, each with 2x2 max-pooling and ReLU, then two dense layers.

    (B, 1, 28, 28) float32 -> (B, 10) logits.
    """

    chain: ClassVar = Chain((1, 28, 28), convolutions=((32, 2), (64, 2)), units=(512, 10))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d(1, 32, kernel_size=5, padding=2)
        self.conv2 = Conv2d(32, 64, kernel_size=5, padding=2)
        self.fc1 = Linear(3136, 512)
        self.fc2 = Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = pooled_relu(x, self.conv1)  # (B, 32, 14, 14)
        x = pooled_relu(x, self.conv2)  # (B, 64, 7, 7)
        x = torch.relu(self.fc1(x.flatten(1)))  # (B, 512)
        output: Tensor = self.fc2(x)
        return output
