"""Federated Averaging as a notebook writes it: torchvision transforms, DataLoaders, a plain loop over the clients."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
import work
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

State = dict[str, Tensor]


def load_mnist(data_dir: Path) -> tuple[MNIST, DataLoader]:
    """The training set and the test set's loader."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((work.MEAN,), (work.STD,))])
    test_set = MNIST(data_dir, train=False, transform=transform)
    return MNIST(data_dir, train=True, transform=transform), DataLoader(test_set, batch_size=work.TEST_BATCH_SIZE)


def client_loaders(train_set: Dataset, num_clients: int, examples: int, batch_size: int) -> list[DataLoader]:
    """Each client's loader, over its own run of consecutive images."""
    subsets = [Subset(train_set, range(k * examples, (k + 1) * examples)) for k in range(num_clients)]
    return [DataLoader(subset, batch_size=batch_size, shuffle=True) for subset in subsets]


def train(model: nn.Module, loader: DataLoader, epochs: int, learning_rate: float) -> None:
    """Local training of one client."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.nll_loss(model(images), labels)
            loss.backward()
            optimizer.step()


def test(model: nn.Module, loader: DataLoader) -> tuple[float, float]:
    """The mean loss and the accuracy on the test set."""
    loss, correct = 0.0, 0
    model.eval()
    with torch.no_grad():
        for images, labels in loader:
            output = model(images)
            loss += F.nll_loss(output, labels, reduction="sum").item()
            correct += int((output.argmax(dim=1) == labels).sum())
    return loss / len(loader.dataset), correct / len(loader.dataset)


def average(states: Sequence[State]) -> State:
    """The mean of models that have seen equally many examples."""
    return {key: torch.stack([state[key] for state in states]).mean(dim=0) for key in states[0]}


def one_round(server: nn.Module, loaders: Sequence[DataLoader], epochs: int, learning_rate: float) -> list[nn.Module]:
    """Train every client from the server's model and load the average into it; returns the clients' models."""
    clients = []
    for loader in loaders:
        client = copy.deepcopy(server)
        train(client, loader, epochs, learning_rate)
        clients.append(client)
    server.load_state_dict(average([client.state_dict() for client in clients]))
    return clients


def main() -> None:
    """Do the work."""
    train_set, test_loader = load_mnist(work.parse_data_dir(__doc__))
    torch.manual_seed(work.SEED)
    loaders = client_loaders(train_set, work.NUM_CLIENTS, work.EXAMPLES_PER_CLIENT, work.BATCH_SIZE)
    server = work.SimpleCNN()
    for number in range(1, work.ROUNDS + 1):
        one_round(server, loaders, work.LOCAL_EPOCHS, work.LEARNING_RATE)
        _, accuracy = test(server, test_loader)
        work.report_round(number, accuracy)


if __name__ == "__main__":
    main()
