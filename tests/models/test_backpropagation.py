"""The backward pass without autograd against autograd's: the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedbench.core import ClientData
from fedbench.core.client import client_update
from fedbench.core.flat import FlatModel
from fedbench.models.two_nn import TwoNN

EXAMPLES = 64


class ByAutograd(TwoNN):
    """The 2NN whose own backward pass is not used, since a subclass has its `forward`."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return super().forward(x)


@pytest.fixture
def data() -> ClientData:
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(EXAMPLES, 1, 28, 28, generator=stream)
    return ClientData(images, torch.randint(10, (EXAMPLES,), generator=stream))


class FirstLayerFrozen:
    """What a subclass of the 2NN may do and keep its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1.requires_grad_(False)  # type: ignore[attr-defined]


class Frozen(FirstLayerFrozen, TwoNN): ...


class FrozenByAutograd(FirstLayerFrozen, ByAutograd): ...


def trained(build: type[nn.Module], data: ClientData, batch_size: int | None) -> tuple[Tensor, float]:
    torch.manual_seed(1)
    model = FlatModel(build())
    loss = client_update(model, data, 3, batch_size, 0.1, torch.Generator().manual_seed(2))
    return model.vector, loss


@pytest.mark.parametrize(("own", "by_autograd"), [(TwoNN, ByAutograd), (Frozen, FrozenByAutograd)])
@pytest.mark.parametrize("batch_size", [1, 10, 48, None])
def test_training_has_the_bits_of_autograd(
    data: ClientData, batch_size: int | None, own: type[nn.Module], by_autograd: type[nn.Module]
) -> None:
    (vector, loss), (same_vector, same_loss) = (trained(each, data, batch_size) for each in (own, by_autograd))
    assert torch.equal(vector, same_vector)
    assert loss == same_loss


def test_it_is_used_for_the_2nn_and_not_for_a_subclass_with_another_forward(
    data: ClientData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backward(_: Tensor) -> None:
        raise AssertionError("autograd was asked")

    monkeypatch.setattr(Tensor, "backward", backward)
    trained(TwoNN, data, 10)
    with pytest.raises(AssertionError, match="autograd was asked"):
        trained(ByAutograd, data, 10)
