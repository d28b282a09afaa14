"""Images are mirrored at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def horizontal_flip(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image (..., H, W) is exchanged for its mirror image, left to right, with probability 1/2."""
    import torch

    flipped = torch.rand(len(inputs), generator=generator) < 0.5  # (B,)
    shape = (-1, *(1 for _ in inputs.shape[1:]))
    return torch.where(flipped.view(shape).to(inputs.device), inputs.flip(-1), inputs)
