"""The clients' optimisers: steps by hand, and the bits of PyTorch's own on separate parameters."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from fedbench.components import find
from fedbench.core import ClientData, FlatModel, Purpose, fedavg, numpy_stream, permutation
from fedbench.core.client import client_update
from fedbench.optimisers.sgd import SGD
from fedbench.suites.cell import CellSpec


def steps(gradients: list[float], **options: Any) -> list[float]:
    """w after each step from w = 1 with η = 0.5, along these gradients."""
    w, found = torch.tensor([1.0]), []
    optimiser = find("optimiser", "sgd").make(**options)([w], 0.5)
    for gradient in gradients:
        w.grad = torch.tensor([gradient])
        optimiser.step()
        found.append(w.item())
    return found


def test_steps_are_the_ones_computed_by_hand() -> None:
    assert [0.0, -1.0] == steps([2.0, 2.0])  # 1 - 0.5·2, and the same again
    assert [0.0, -1.5] == steps([2.0, 2.0], momentum=0.5)  # v = 2, then 0.5·2 + 2 = 3
    assert [-0.5, -2.25] == steps([2.0, 2.0], momentum=0.5, nesterov=True)  # 2 + 0.5·2 = 3, then 2 + 0.5·3 = 3.5
    assert [-0.5, -1.25] == steps([2.0, 2.0], weight_decay=1.0)  # 2 + 1·1 = 3, then 2 + 1·(-0.5) = 1.5


def test_nesterovs_momentum_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov: there is no momentum; set momentum above 0"):
        CellSpec(nesterov=True)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 36, 7)
    )


def images(number: int = 23) -> ClientData:
    stream = torch.Generator().manual_seed(1)
    return ClientData(torch.randn(number, 1, 10, 10, generator=stream), torch.arange(number) % 7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
        {"weight_decay": 0.01},
        {"momentum": 0.5, "clip_norm": 0.1},
    ],
)
def test_a_client_takes_the_steps_of_torchs_own_sgd_on_separate_parameters(options: dict[str, Any]) -> None:
    """Bit for bit; but a clipped gradient's norm is summed over one vector here and by parameter there."""
    data, flat = images(), FlatModel(network())
    clip_norm = options.pop("clip_norm", None)
    separate = copy.deepcopy(flat.module)  # in the same layout
    client_update(flat, data, 3, 5, 0.1, order(), optimiser=SGD(**options), clip_norm=clip_norm)

    optimiser = torch.optim.SGD(separate.parameters(), 0.1, **options)
    stream = order()
    for _ in range(3):
        for chosen in torch.from_numpy(permutation(stream, len(data))).split(5):
            optimiser.zero_grad(set_to_none=False)
            batch = data.inputs[chosen].contiguous(memory_format=torch.channels_last)
            F.cross_entropy(separate(batch), data.labels[chosen]).backward()
            if clip_norm:
                nn.utils.clip_grad_norm_(separate.parameters(), clip_norm)
            optimiser.step()
    for name, expected in separate.state_dict().items():
        found = flat.module.state_dict()[name]
        assert torch.equal(expected, found) or (clip_norm and torch.allclose(expected, found, atol=1e-6)), name


def order() -> np.random.Generator:
    return numpy_stream(2, Purpose.BATCH_ORDER)


def line(*xs: float) -> ClientData:
    """Examples of one feature, all of class 0 of 2."""
    return ClientData(torch.tensor(xs)[:, None], torch.zeros(len(xs), dtype=torch.int64))


def trained(rounds: int = 1, **options: Any) -> list[Tensor]:
    """The parameters after each round of one client with one example, x = 1; w and b start at 0."""

    def build() -> nn.Module:
        model = nn.Linear(1, 2)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return model

    results = fedavg(build, [line(1.0)], rounds=rounds, local_epochs=1, learning_rate=1.0, **options)
    return [result.server.model.vector.clone() for result in results]


def test_a_gradient_is_clipped_to_the_norm() -> None:
    # p = (1/2, 1/2), so the gradient for w and b is (-1/2, 1/2, -1/2, 1/2), of norm 1
    assert [0.5, -0.5, 0.5, -0.5] == trained()[0].tolist()
    assert [0.25, -0.25, 0.25, -0.25] == pytest.approx(trained(clip_norm=0.5)[0].tolist(), abs=1e-5)
    assert [0.5, -0.5, 0.5, -0.5] == trained(clip_norm=2.0)[0].tolist()


def test_the_learning_rate_decays_by_the_round() -> None:
    """η_t = η · decay^(t − 1): round 1 has η itself; with 0.5, rounds 2 and 3 have a half and a quarter of it."""
    rates: list[float] = []

    def make(parameters: Any, learning_rate: float) -> torch.optim.Optimizer:
        rates.append(learning_rate)
        return torch.optim.SGD(parameters, learning_rate)

    found = trained(rounds=3, learning_rate_decay=0.5, optimiser=make)
    assert [1.0, 0.5, 0.25] == rates
    assert all(torch.equal(*pair) for pair in zip(found, trained(rounds=3, learning_rate_decay=0.5), strict=True))


def test_momentum_starts_anew_for_each_client_and_round() -> None:
    """With one step a round there is no earlier one to remember."""
    assert [each.tolist() for each in trained(3)] == [each.tolist() for each in trained(3, optimiser=SGD(momentum=0.9))]


def test_an_optimiser_of_ones_own_gets_the_trained_parameters() -> None:
    shapes: list[list[tuple[int, ...]]] = []

    def make(parameters: Any, learning_rate: float, scale: float = 2.0) -> torch.optim.Optimizer:
        given = list(parameters)
        shapes.append([tuple(each.shape) for each in given])
        return torch.optim.SGD(given, scale * learning_rate)

    assert [1.0, -1.0, 1.0, -1.0] == trained(optimiser=make)[0].tolist()
    assert [[(2, 1), (2,)]] == shapes


def test_what_is_no_optimiser_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"client 0: optimiser: it returned a list instead of a torch\.optim\.Optim"):
        trained(optimiser=lambda *_: [])


@pytest.mark.parametrize(
    "fields", [{"momentum": 0.9}, {"weight_decay": 0.1}, {"clip_norm": 1.0}, {"optimiser": "torch.optim:Adam"}]
)
def test_scaffold_refuses_steps_that_are_not_those_of_plain_sgd(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="scaffold: it takes a client's change for a sum of gradients"):
        CellSpec(algorithm="scaffold", **fields)


def test_fedprox_pulls_through_the_momentum() -> None:
    # from w_t = 0 with μ = 1, η = 1 and momentum 0.5, along g = 0: w = 1 → v = 1, w = 0 → v = 0.5, w = -0.5
    term = find("algorithm", "fedprox").make(proximal_weight=1.0)
    w = torch.tensor([1.0])
    optimiser = SGD(momentum=0.5)([w], 1.0)
    for expected in (0.0, -0.5):
        w.grad = term.proximal_weight * w
        optimiser.step()
        assert expected == w.item()
