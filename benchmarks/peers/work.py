"""What all contenders have in common: the numbers of the work, the data in memory, and how a round's end is told."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it
from torchvision.datasets import MNIST

NUM_CLIENTS = 10
EXAMPLES_PER_CLIENT = 500  # client k has the k-th run of consecutive training images
LOCAL_EPOCHS = 5
BATCH_SIZE = 50
LEARNING_RATE = 0.05
ROUNDS = 6
TEST_BATCH_SIZE = 1_000
MEAN, STD = 0.1307, 0.3081
SEED = 0


class SimpleCNN(nn.Module):
    """The study's network with PyTorch's plain layers, as its notebook has it; fedbench's own is `simple-cnn`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) to (B, 10) log-probabilities."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)


def parse_data_dir(description: str | None) -> Path:
    """The one option of a contender."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="the folder that holds MNIST/raw")
    options: argparse.Namespace = parser.parse_args()
    return options.data_dir


@cache
def in_memory(data_dir: str, train: bool) -> tuple[Tensor, Tensor]:
    """MNIST's training or test images, normalised (N, 1, 28, 28), and their labels (N,); read once in a process.

    Of the training images only those that the clients hold.
    """
    data = MNIST(data_dir, train=train)
    held = slice(NUM_CLIENTS * EXAMPLES_PER_CLIENT if train else None)
    return data.data[held].unsqueeze(1).float().div(255).sub(MEAN).div(STD), data.targets[held]


def client_data(data_dir: str, client: int) -> tuple[Tensor, Tensor]:
    """One client's images and labels."""
    images, labels = in_memory(data_dir, train=True)
    own = slice(client * EXAMPLES_PER_CLIENT, (client + 1) * EXAMPLES_PER_CLIENT)
    return images[own], labels[own]


def shuffled_batches(images: Tensor, labels: Tensor, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """One epoch's batches, in a new order."""
    order = torch.randperm(len(labels))
    return list(zip(images[order].split(batch_size), labels[order].split(batch_size), strict=True))


def report_round(number: int, accuracy: float) -> None:
    """Tell the driver that a round, with its evaluation, has ended."""
    print(f"ROUND {number} {accuracy:.4f}", flush=True)
