"""What the benchmarks work on, and how much work that is. Everything is made from fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fedbench.core import ClientData, FlatModel
from fedbench.models import build_model

MODEL = "simple-cnn"
BATCH_SIZE = 50  # B
LEARNING_RATE = 0.01  # η


def images(number: int, seed: int = 0) -> ClientData:
    """`number` images of noise, (N, 1, 28, 28), with labels of ten classes in equal shares."""
    stream = torch.Generator().manual_seed(seed)
    return ClientData(torch.randn(number, 1, 28, 28, generator=stream), torch.arange(number) % 10)


def flat_model(name: str = MODEL) -> FlatModel:
    torch.manual_seed(0)
    return FlatModel(build_model(name))


def count_flops(call: Callable[[], object]) -> int:
    """The FLOPs of one call, by PyTorch's own count of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def training_flops(number: int, name: str = MODEL) -> int:
    """The FLOPs of the forward and backward passes on `number` images, as the plain module computes them."""
    return _scaled(number, name, lambda model, data: F.cross_entropy(model(data.inputs), data.labels).backward())


@torch.no_grad()
def forward_flops(number: int) -> int:
    """The FLOPs of the forward passes on `number` images, likewise."""
    return _scaled(number, MODEL, lambda model, data: model(data.inputs))


def _scaled(number: int, name: str, call: Callable[[torch.nn.Module, ClientData], object]) -> int:
    """Counted on one batch: however an implementation goes about it, the work is that of the plain module."""
    model, batch = build_model(name), images(BATCH_SIZE)
    return count_flops(lambda: call(model, batch)) * number // BATCH_SIZE


def num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
