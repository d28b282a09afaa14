"""The mean of models whose units were put into one order (Ainsworth et al., 2023, arXiv:2209.04836)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedbench.util.frozen import Count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedbench.core import AlignedMean


@dataclass(frozen=True)
class Aligned:
    """The units of each client's model, its channels and features, are permuted to those of the first client's model.

    The order of units is arbitrary, so models of different starts have units that do not correspond. A permutation
    changes nothing that a model computes; what it may do is found from the layers. With more than two clients each
    model is then aligned with the mean of the others, until none changes.

    Attributes
    ----------
    align_by
        ``weights``: the order in which the parameters are nearest. ``activations``: the order in which the units
        correlate most on public examples.
    repair
        Whether the units of the average are then rescaled so that on public examples their means and standard
        deviations are the averages of the clients' (REPAIR: Jordan et al., 2023, arXiv:2211.08403).
    public_examples
        How many examples are public, for activations and repair: the last training examples that no client holds.
    """

    align_by: Literal["weights", "activations"] = "weights"
    repair: bool = False
    public_examples: Count = 1000
    permutes: ClassVar[bool] = True

    @property
    def num_public(self) -> int:
        """The public examples that it reads."""
        return self.public_examples if self.repair or self.align_by == "activations" else 0

    @property
    def is_portable(self) -> bool:
        """Whether its bits are the same on every processor, as those of weights are."""
        return self.num_public == 0

    def for_model(self, model: nn.Module, inputs: Tensor) -> Callable[[], AlignedMean]:
        """What makes the accumulator of a round, for models like this one; `inputs` are the public examples'."""
        from functools import partial

        from fedbench.core import AlignedMean, Architecture

        return partial(AlignedMean, Architecture(model, inputs), model, inputs, self.align_by, self.repair)
