"""Stochastic gradient descent, with momentum and weight decay (`torch.optim.SGD`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from fedbench.util.frozen import Fraction

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SGD:
    """With g the gradient of a batch: g ← g + λ w, then v ← μ v + g, then w ← w − η v.

    With Nesterov's momentum the last step is w ← w − η (g + μ v). v starts at the first g, for each client in each
    round.

    Attributes
    ----------
    momentum
        μ, the share of v that a step keeps.
    weight_decay
        λ, how much of the parameters is added to the gradient.
    nesterov
        Whether the momentum is Nesterov's.
    """

    momentum: Annotated[Fraction, Field(lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    nesterov: bool = False
    is_elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: there is no momentum; set momentum above 0")

    @property
    def is_plain(self) -> bool:
        """Whether there is neither momentum nor weight decay."""
        return not (self.momentum or self.weight_decay)

    def __call__(self, parameters: Iterable[torch.Tensor], learning_rate: float) -> torch.optim.Optimizer:
        """See the class."""
        import torch

        return torch.optim.SGD(
            parameters, learning_rate, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
        )
