"""The study's network for 28x28 grey images: 21,840 parameters, 0.96 MFLOP an image forward."""

import torch
from torch import Tensor, nn

from fedbench.kernels import Chain
from fedbench.models.layers import Conv2d, Linear, pooled_relu


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions, each with 2x2 max-pooling and ReLU, then two dense layers.

    (B, 1, 28, 28) float32 -> (B, 10) log-probabilities.

    Parameters
    ----------
    width
        How many times as many channels and hidden units it has.
    """

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.width = width
        self.conv1 = Conv2d(1, 10 * width, kernel_size=5)
        self.conv2 = Conv2d(10 * width, 20 * width, kernel_size=5)
        self.fc1 = Linear(320 * width, 50 * width)
        self.fc2 = Linear(50 * width, 10)

    @property
    def chain(self) -> Chain:
        """What the kernels compute."""
        convolutions = ((10 * self.width, 0), (20 * self.width, 0))
        return Chain((1, 28, 28), convolutions=convolutions, units=(50 * self.width, 10))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = pooled_relu(x, self.conv1)  # (B, 10 width, 12, 12)
        x = pooled_relu(x, self.conv2)  # (B, 20 width, 4, 4)
        x = torch.relu(self.fc1(x.flatten(1)))  # (B, 50 width)
        return torch.log_softmax(self.fc2(x), dim=1)
