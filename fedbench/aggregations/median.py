"""The median of each component (Yin et al., 2018, arXiv:1803.01498, definition 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def median(vectors: Tensor, weights: Tensor) -> Tensor:
    """With an even number of clients, the mean of the two middle values. All clients count the same.

    What is not a number counts as larger than all numbers.
    """
    del weights
    ordered, number = vectors.sort(dim=0).values, len(vectors)  # (m, D)
    return ordered[(number - 1) // 2 : number // 2 + 1].mean(dim=0)
