"""Units in another order: the same function, found again exactly, and the average repaired."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedbench.core import (
    AlignedMean,
    Architecture,
    ClientData,
    FlatModel,
    align,
    average_model_parameters,
    correlations,
    fedavg,
    repair,
)
from fedbench.core.alignment import matching
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


# Any stack of layers


def convolution(draw: st.DrawFn, before: int, after: int) -> list[nn.Module]:
    kind = draw(st.sampled_from(["plain", "depthwise", "residual"]))
    if kind == "residual" and before > 1:
        return [Block(before), nn.Conv2d(before, after, 1)]
    depthwise = [nn.Conv2d(before, 2 * before, 3, padding=1, groups=before), nn.Conv2d(2 * before, after, 1)]
    return depthwise if kind == "depthwise" else [nn.Conv2d(before, after, 3, padding=1, bias=draw(st.booleans()))]


@st.composite
def stacks(draw: st.DrawFn) -> tuple[int, nn.Module]:
    """A seed and an image classifier: convolutions, flattening or a mean over space, dense layers."""
    seed, channels, layers = draw(st.integers(0, 2**16)), 2, list[nn.Module]()
    nonlinear = st.sampled_from([nn.ReLU(inplace=True), nn.GELU(), nn.Tanh(), nn.Hardswish(), nn.LeakyReLU(0.1)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for after in draw(st.lists(st.integers(1, 6), max_size=3)):
            layers += convolution(draw, channels, after)
            norms = [nn.BatchNorm2d(after), nn.GroupNorm(1, after), nn.Identity(), nn.PReLU(after)]
            layers += [draw(st.sampled_from(norms)), draw(nonlinear)]
            channels = after
        layers += [
            draw(st.sampled_from([nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(2), nn.Upsample((2, 2))]))
        ]
        features, is_flat = 4 * channels, draw(st.booleans())
        layers += [nn.Flatten()] if is_flat else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        features = features if is_flat else channels
        for after in draw(st.lists(st.integers(1, 6), max_size=2)):
            layers += [nn.Linear(features, after), draw(st.sampled_from([nn.LayerNorm(after), nn.Dropout()]))]
            layers += [draw(nonlinear)]
            features = after
        model = nn.Sequential(*layers, nn.Linear(features, 3))
        model.train()(torch.randn(20, 2, 4, 4))  # statistics of its own
    return seed, model.eval()


@settings(max_examples=settings().max_examples // 10)  # each is exported
@given(stacks())
def test_any_stack_of_layers_can_be_permuted_and_is_restored(drawn: tuple[int, nn.Module]) -> None:
    (seed, model), inputs = drawn, examples(9, 2, 4, 4)
    other, architecture = permuted_copy(model, inputs, seed)
    widths = [each.out_channels if isinstance(each, nn.Conv2d) else each.out_features for each in layers_of(model)[:-1]]
    assert sum(width > 1 for width in widths) >= len(architecture.units) >= (max(widths, default=1) > 1)
    with torch.no_grad():
        torch.testing.assert_close(other(inputs), model(inputs), rtol=1e-4, atol=1e-5)
    assert_same_bits(align(other, to=model, examples=inputs), model)


def layers_of(model: nn.Module) -> list[Any]:
    return [each for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)]


class Tied(nn.Module):
    """A layer whose weights are used twice, so that its units are those that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.alias = self.again

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(torch.tanh(self.alias(torch.tanh(self.again(self.first(x))))))
        return output


class Gated(nn.Module):
    """Channels that are weighted by what follows from their means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.last = nn.Conv2d(2, 5, 1), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = torch.sigmoid(self.gate(x.mean(dim=(2, 3))))
        x = x * gate.unsqueeze(-1).unsqueeze(-1)
        output: Tensor = self.last(x.permute(0, 2, 3, 1).mean(dim=[1, 2]))
        return output


@pytest.mark.parametrize(("build", "shape", "sizes"), [(Tied, (3,), [5]), (Gated, (2, 3, 3), [5])])
def test_layers_that_share_units_are_permuted_together(
    build: Callable[[], nn.Module], shape: tuple[int, ...], sizes: list[int]
) -> None:
    model, inputs = drawn(build).eval(), examples(7, *shape)
    other, architecture = permuted_copy(model, inputs)
    assert sizes == [each.size for each in architecture.units]
    with torch.no_grad():
        torch.testing.assert_close(other(inputs), model(inputs))
    assert_same_bits(align(other, to=model, examples=inputs), model)


def test_units_of_groups_of_channels_are_permuted_as_far_as_the_groups_allow() -> None:
    """8 channels in 2 groups: the groups change places, and in each the channels do alike."""
    model = drawn(
        lambda: nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1, groups=2), nn.Conv2d(6, 2, 1))
    )
    inputs = examples(7, 2, 3, 3)
    other, architecture = permuted_copy(model, inputs)
    assert [2, 4, 3] == [each.size for each in architecture.units]
    with torch.no_grad():
        torch.testing.assert_close(other(inputs), model(inputs))


# Matching


def test_units_are_matched_by_hand() -> None:
    """Units (1, 0), (0, 2) and (3, 3), and other ones near the third, the first and the second."""
    model, to = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    with torch.no_grad():
        for each, first, last in (
            (to, [[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], [[1.0, 2.0, 3.0]]),
            (model, [[3.1, 2.9], [1.1, 0.1], [0.1, 2.1]], [[3.1, 1.1, 2.1]]),
        ):
            each[0].weight.copy_(torch.tensor(first))
            each[1].weight.copy_(torch.tensor(last))
            each[0].bias.zero_()
    aligned: Any = align(model, to, torch.zeros(1, 2))
    assert torch.equal(torch.tensor([[1.1, 0.1], [0.1, 2.1], [3.1, 2.9]]), aligned[0].weight)
    assert torch.equal(torch.tensor([[1.1, 2.1, 3.1]]), aligned[1].weight)


def test_correlations_are_those_of_numpy_by_layer() -> None:
    models, inputs = [drawn(lambda: build_model("2nn"), seed) for seed in (0, 1)], examples(300, 1, 28, 28)
    found = correlations(*models, inputs)
    assert ["fc1", "fc2"] == list(found)
    with torch.no_grad():
        units = [torch.relu(model.fc1(inputs.flatten(1))).double().numpy() for model in models]  # type: ignore[operator]
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.corrcoef(units[0].T, units[1].T)[:200, 200:])
    np.testing.assert_allclose(found["fc1"].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("size", "scale"), [(30, 1.0), (3_000, 1e-30), (300_000, 1e30)])
def test_sums_of_products_of_rounded_weights_are_exact(size: int, scale: float) -> None:
    """In double precision as in whole numbers, so that no processor's order of adding matters."""
    one, other = (examples(3, size // 3, seed=seed) * scale for seed in (0, 1))
    first, second, unit = matching._rounded(one, other)
    whole = [each.astype(np.int64).astype(object) for each in (first, second)]
    assert [[int(each) for each in row] for row in first @ second.T] == (whole[0] @ whole[1].T).tolist()
    assert max(np.abs(first).max(), np.abs(second).max()) >= 2**14
    np.testing.assert_allclose(first * math.sqrt(unit), one.double().numpy(), atol=1e-4 * scale)


def test_models_that_are_not_finite_stay_as_they_are() -> None:
    model, to = (drawn(lambda: build_model("simple-cnn"), seed) for seed in (0, 1))
    with torch.no_grad():
        for each in model.parameters():
            each.fill_(math.nan)
    inputs = torch.zeros(2, 1, 28, 28)
    for by in ("weights", "activations"):
        assert_same_bits(to, align(to, model, inputs, by))  # type: ignore[arg-type]
        align(model, to, inputs, by)  # type: ignore[arg-type]


# REPAIR


def one_layer(weight: float, bias: float) -> nn.Module:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(weight)
        model.bias.fill_(bias)
    return model


def test_repair_by_hand() -> None:
    """Of inputs −1 and 1 the parents have means 0 and 4, standard deviations 3 and 1; weighted 3 : 1, 1 and 2.5."""
    parents = [one_layer(3, 0), one_layer(-1, 4)]
    average = average_model_parameters(parents, [3, 1])
    repaired: Any = repair(average, parents, [3, 1], torch.tensor([[-1.0], [1.0]]))
    assert (2.0, 1.0) == (average.weight.item(), average.bias.item())  # type: ignore[operator, union-attr]
    assert (2.5, 1.0) == (repaired.weight.item(), repaired.bias.item())


@pytest.mark.parametrize("name", ["simple-cnn", "2nn"])
def test_a_repaired_average_has_the_statistics_of_its_parents(name: str) -> None:
    """After the first layer too, whose input is that of the repaired one before."""
    inputs = examples(200, 1, 28, 28)
    parents = [drawn(lambda: build_model(name), seed) for seed in (0, 1)]
    average = average_model_parameters(parents, [1, 3])
    repaired = repair(average, parents, [1, 3], inputs)
    program = Architecture(average, inputs).program
    wanted, other, found, before = (of_layers(program, each, inputs) for each in (*parents, repaired, average))
    for node in wanted:
        expected = 0.25 * wanted[node] + 0.75 * other[node]
        alive = before[node][1] > 0
        torch.testing.assert_close(found[node][:, alive], expected[:, alive], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found[node][0], expected[0], rtol=1e-3, atol=1e-4)


def of_layers(program: Any, model: nn.Module, inputs: Tensor) -> dict[Any, Tensor]:
    from fedbench.core.alignment.repair import moments_of

    return {node: torch.stack(moments) for node, moments in moments_of(program, model, inputs).items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_averaged_with_itself_is_repaired_to_itself(name: str) -> None:
    model, inputs = drawn(lambda: build_model(name)), examples(20, *MODELS[name].image_shape)
    repaired = repair(average_model_parameters([model, model], [1, 2]), [model, model], [1, 2], inputs)
    for one, other in zip(model.parameters(), repaired.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_repair_measures_the_statistics_of_batchnorm_anew() -> None:
    parents = [drawn(residual, seed) for seed in (0, 1)]
    inputs = examples(40, 3, 8, 8)
    average: Any = average_model_parameters(parents, [1, 1])
    repaired: Any = repair(average, parents, [1, 1], inputs)
    assert torch.equal(average[0].weight, repaired[0].weight)  # BatchNorm follows
    before = average[0](inputs).transpose(0, 1).flatten(1)
    torch.testing.assert_close(repaired[1].running_mean, before.mean(dim=1))
    torch.testing.assert_close(repaired[1].running_var, before.var(dim=1))
    assert not torch.equal(average[-1].weight, repaired[-1].weight)  # the last layer is rescaled


# The average of a round


def state_of(model: nn.Module) -> Any:
    return FlatModel(copy.deepcopy(model)).state()


@pytest.mark.parametrize("shares", [(0.25, 0.75), (0.5, 0.25, 0.25), (0.2,) * 5])
def test_the_mean_of_permuted_copies_is_the_first(shares: tuple[float, ...]) -> None:
    model, inputs = drawn(residual), examples(20, 3, 8, 8)
    copies = [model, *(permuted_copy(model, inputs, seed)[0] for seed in range(1, len(shares)))]
    accumulator = AlignedMean(Architecture(model, inputs), model, inputs)
    for each, share in zip(copies, shares, strict=True):
        accumulator.add(state_of(each), share)
    mean = accumulator.state()
    torch.testing.assert_close(mean.vector, state_of(model).vector, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(each.vector, state_of(model).vector) for each in accumulator.aligned)


def test_more_than_two_models_end_nearer_to_each_other_than_by_the_first_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [drawn(lambda: build_model("simple-cnn"), seed) for seed in range(4)]
    inputs = torch.zeros(2, 1, 28, 28)
    architecture = Architecture(models[0], inputs)

    def spread() -> float:
        accumulator = AlignedMean(architecture, models[0], inputs)
        for model in models:
            accumulator.add(state_of(model), 0.25)
        mean = accumulator.state().vector
        return sum(float((each.vector - mean).norm()) for each in accumulator.aligned)

    after = spread()
    monkeypatch.setattr("fedbench.core.alignment.mean.MAX_PASSES", 0)
    assert after < spread()


def test_units_with_frozen_parameters_stay() -> None:
    """The server keeps its own frozen parameters, whatever the clients' order is."""
    model, inputs = drawn(lambda: build_model("2nn")), torch.zeros(2, 1, 28, 28)
    for each in (model.fc1.weight, model.fc1.bias):  # type: ignore[union-attr]
        each.requires_grad_(False)  # type: ignore[operator, union-attr]
    other, architecture = permuted_copy(model, inputs)
    accumulator = AlignedMean(architecture, model, inputs)
    size = len(FlatModel(copy.deepcopy(model)).parameters)
    for each in (model, other):
        accumulator.add(state_of(each).head(size), 0.5)
    assert size == len(accumulator.state().vector)
    columns = other.fc2.weight.sum(dim=0)  # type: ignore[union-attr, operator]
    aligned = accumulator.aligned[1].vector[: 200 * 200].view(200, 200)
    torch.testing.assert_close(columns, aligned.sum(dim=0))  # in their places, which are those of fc1's units
    assert not torch.equal(other.fc2.weight, aligned)  # type: ignore[union-attr, arg-type]


def clients(number: int = 2) -> list[ClientData]:
    return [ClientData(examples(40, 1, 28, 28, seed=seed), torch.arange(40) % 10) for seed in range(number)]


def test_a_round_has_the_clients_models_as_they_were_averaged() -> None:
    def aggregation() -> AlignedMean:
        return AlignedMean(architecture, template, template_inputs)

    template, template_inputs = build_model("2nn"), torch.zeros(2, 1, 28, 28)
    architecture = Architecture(template, template_inputs)
    options: Any = {"rounds": 1, "local_epochs": 1, "batch_size": 20, "learning_rate": 0.1, "init": "independent"}
    updates: list[Any] = []
    plain = next(fedavg(lambda: build_model("2nn"), clients(), **options))
    result = next(
        fedavg(lambda: build_model("2nn"), clients(), **options, aggregation=aggregation, observe=updates.append)
    )
    first, second = result.aligned
    assert () == plain.aligned
    assert torch.equal(updates[0].state.vector, first.vector)
    assert not torch.equal(updates[1].state.vector, second.vector)
    mean = (first.vector.double() + second.vector.double()) / 2
    assert torch.equal(mean.float(), result.server.model.vector)
    assert float((first.vector - second.vector).norm()) < float((first.vector - updates[1].state.vector).norm())


def test_messages_do_not_go_with_a_permutation() -> None:
    from fedbench.algorithms.scaffold import Scaffold

    template, inputs = build_model("2nn"), torch.zeros(2, 1, 28, 28)
    architecture = Architecture(template, inputs)
    options: Any = {"rounds": 1, "local_epochs": 1, "batch_size": 20, "learning_rate": 0.1, "algorithm": Scaffold()}
    rounds = fedavg(
        lambda: build_model("2nn"),
        clients(),
        **options,
        aggregation=lambda: AlignedMean(architecture, template, inputs),
    )
    with pytest.raises(ValueError, match="permutes the clients' models but not the messages"):
        next(rounds)


# What cannot be done


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(torch.cat([branch(x) for branch in self.branches], dim=1))
        return output


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 5, batch_first=True))
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.inner(x[:, None])[0][:, 0])
        return output


class Branching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda: nn.Sequential(Concatenated(), nn.ReLU()),
            "units cannot be followed through cat in layer '0': there is",
        ),
        (Concatenated, "units cannot be followed through cat in the model's forward: there is no rule for it"),
        (Recurrent, "units cannot be followed through lstm in layer 'inner.1': there is no rule for it"),
        (lambda: Branching(3, 3), "torch.export cannot take the model Branching, so its units are unknown: "),
    ],
)
def test_a_layer_that_cannot_be_followed_is_named_in_one_line(
    build: Callable[[], nn.Module], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="^" + said) as caught:
        align(build(), build(), torch.zeros(2, 3))
    assert "\n" not in str(caught.value)
    assert ("", "") == capfd.readouterr()


def test_wrong_arguments() -> None:
    one, other, inputs = nn.Linear(3, 2), nn.Linear(3, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="by is 'weight': choose weights or activations"):
        align(one, one, inputs, by="weight")  # type: ignore[arg-type]
    for wrong in (lambda: align(one, other, inputs), lambda: correlations(one, other, inputs)):
        with pytest.raises(ValueError, match="model 1 has another architecture than model 0"):
            wrong()
    with pytest.raises(ValueError, match="there are 1 models but 2 weights"):
        repair(one, [one], [1, 2], inputs)
    with pytest.raises(ValueError, match="repair: layer 'again' shares its weights"):
        repair(Tied(), [Tied()], [1], inputs)


def test_a_model_without_hidden_units_stays_as_it_is() -> None:
    one, other, inputs = drawn(lambda: nn.Linear(3, 2), 0), drawn(lambda: nn.Linear(3, 2), 1), torch.zeros(2, 3)
    assert_same_bits(one, align(one, other, inputs))
    assert {} == correlations(one, other, inputs)
