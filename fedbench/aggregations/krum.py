"""Krum: the model that is nearest to its neighbours (Blanchard et al., 2017, arXiv:1703.02757, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Krum:
    """The model of one client: that with the least sum of squared distances to its m − f − 2 nearest others.

    Of equals, the client with the lowest number. It needs m ≥ 2 f + 3 clients in each round. All clients count the
    same; one whose model is not finite is not chosen.

    Attributes
    ----------
    byzantine_clients
        f, the number of clients whose models may be wrong in any way.
    """

    byzantine_clients: Annotated[int, Field(ge=1)] = 1

    @property
    def min_clients(self) -> int:
        """2 f + 3."""
        return 2 * self.byzantine_clients + 3

    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """See the class."""
        import torch

        del weights
        num_nearest = len(vectors) - self.byzantine_clients - 2
        is_constant = (vectors == vectors[0]).all(dim=0)  # at no distance, even if it is infinite
        differing = vectors.masked_fill(is_constant, 0)
        distances = torch.cdist(differing, differing, compute_mode="donot_use_mm_for_euclid_dist")  # (m, m)
        distances = distances.square().nan_to_num(math.inf).fill_diagonal_(math.inf)
        scores = distances.sort(dim=1).values[:, :num_nearest].sum(dim=1)  # (m,)
        return vectors[scores.argmin()]
