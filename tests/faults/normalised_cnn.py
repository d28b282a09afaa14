"""A small network with BatchNorm and dropout, which no shipped model has: what goes wrong with buffers shows in it."""

import torch
from torch import Tensor, nn


class NormalisedCNN(nn.Module):
    """A 5x5 convolution with batch normalisation, ReLU and max-pooling, dropout, and a dense layer.

    (B, 1, 28, 28) float32 -> (B, 10) logits. Its buffers are a running mean, a running variance and a counter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, kernel_size=5, stride=2)
        self.normalisation = nn.BatchNorm2d(8)
        self.pooling = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(8 * 6 * 6, 10)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = torch.relu(self.normalisation(self.convolution(x)))  # (B, 8, 12, 12)
        x = self.pooling(x)  # (B, 8, 6, 6)
        return self.dense(self.dropout(x.flatten(1)))  # type: ignore[no-any-return]
