"""Units in another order: the same function, found again exactly, and the average repaired."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedbench.core import (
    Architecture,
    align,
)
from fedbench.core.alignment.matching import permute
from fedbench.models import MODELS, build_model


class Block(nn.Module):
    """A residual block as in ResNets: what it adds to has its order."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        between = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu_(x + self.norm2(self.conv2(between)))


def residual() -> nn.Module:
    first = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    model = nn.Sequential(*first, Block(6), Block(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    with torch.no_grad():
        model.train()(torch.randn(30, 3, 8, 8))  # statistics of its own
    return model.eval()


def drawn(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def examples(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def permuted_copy(model: nn.Module, inputs: Tensor, seed: int = 0) -> tuple[nn.Module, Architecture]:
    architecture, rng = Architecture(model, inputs), np.random.default_rng(seed)
    other = copy.deepcopy(model)
    permute(other, architecture.units, [rng.permutation(each.size) for each in architecture.units])
    return other, architecture


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    for (name, left), right in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


BUILT_IN = [(name, lambda name=name: build_model(name), info.image_shape) for name, info in MODELS.items()]


@pytest.mark.parametrize(("name", "build", "shape"), [*BUILT_IN, ("residual", residual, (3, 8, 8))])
def test_a_permuted_copy_computes_the_same_and_is_restored_to_the_bit(
    name: str, build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model, inputs = drawn(build), examples(50, *shape)
    other, architecture = permuted_copy(model, inputs)
    assert {"simple-cnn": 3, "simple-cnn-ham": 3, "2nn": 2, "cnn": 3, "residual": 3}[name] == len(architecture.units)
    assert not any(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True) if a.dim() > 1
    )
    with torch.no_grad():
        torch.testing.assert_close(other(inputs), model(inputs), rtol=1e-5, atol=1e-6)
    assert_same_bits(align(other, to=model, examples=inputs), model)
    if name in ("2nn", "residual"):  # some units of the others are constant
        assert_same_bits(align(other, to=model, examples=inputs, by="activations"), model)
