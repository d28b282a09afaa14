"""The kernels against PyTorch, which is the specification, and against each other, bit by bit."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedbench.core import ClientData, FlatModel, Purpose, evaluate, numpy_stream
from fedbench.core.chains import flat_parameters, flattened
from fedbench.core.client import client_update
from fedbench.hooks import AffineTerm
from fedbench.kernels import Chain, Kernels, Stop, add_scaled, squared_distance
from fedbench.kernels.loading import choice, load, usable_variants
from fedbench.models import MODELS, build_model

VARIANTS = usable_variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason="there are no kernels for this processor")


class Reference(nn.Module):
    """A chain in PyTorch."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        channels, *sides = chain.image_shape
        layers: list[nn.Module] = []
        for out, padding in chain.convolutions:
            layers += [nn.Conv2d(channels, out, 5, padding=padding), nn.MaxPool2d(2), nn.ReLU()]
            channels, sides = out, [(side + 2 * padding - 4) // 2 for side in sides]
        layers.append(nn.Flatten())
        features = channels * math.prod(sides)
        for out in chain.units:
            layers += [nn.Linear(features, out), nn.ReLU()]
            features = out
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def kernels_of(chain: Chain, variant: str = VARIANTS[-1] if VARIANTS else "") -> Kernels:
    return Kernels(chain, load(variant))


def examples(chain: Chain, number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(number, *chain.image_shape, generator=stream)
    return images, torch.randint(chain.units[-1], (number,), generator=stream)


def parameters_of(chain: Chain, seed: int = 0) -> tuple[Tensor, nn.Module]:
    torch.manual_seed(seed)
    model = Reference(chain)
    return flat_parameters(model), model


def gradient_in_double(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """The loss and its gradient by PyTorch in double precision, rounded."""
    model = model.double()
    loss = F.cross_entropy(model(images.double()), labels)
    loss.backward()
    return loss.item(), torch.cat([flattened(each.grad) for each in model.parameters() if each.grad is not None])


def chains() -> st.SearchStrategy[Chain]:
    sides = st.integers(5, 17)
    convolution = st.tuples(st.integers(1, 14), st.integers(0, 4))
    shapes = st.tuples(st.integers(1, 4), sides, sides)
    units = st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple)
    whole = st.builds(Chain, shapes, units, st.lists(convolution, max_size=2).map(tuple))
    return whole.filter(has_pixels)


def has_pixels(chain: Chain) -> bool:
    sides = list(chain.image_shape[1:])
    for _, padding in chain.convolutions:
        sides = [(side + 2 * padding - 4) // 2 for side in sides]
        if min(sides) < 1:
            return False
    return True


BUILT_IN = [build_model(name).chain for name in MODELS]  # type: ignore[attr-defined]


@settings(deadline=None)
@given(chains(), st.integers(1, 70), st.integers(0, 100))
@example(BUILT_IN[0], 50, 0)
@example(BUILT_IN[1], 7, 0)
@example(BUILT_IN[2], 600, 0)
@example(BUILT_IN[3], 1, 0)
def test_the_gradient_of_any_chain_is_pytorchs_and_the_same_bits_by_all_variants(
    chain: Chain, number: int, seed: int
) -> None:
    """Within the rounding of float32 sums.

    Images are −1, 0 and 1 and parameters eighths of them, so that logits are exact: otherwise rounding could decide
    which pixel is the largest, or whether a unit is above zero.
    """
    (_, model), (images, labels) = parameters_of(chain, seed), examples(chain, number, seed)
    images = images.round().clamp(-1, 1)
    with torch.no_grad():
        for each in model.parameters():
            each.copy_(torch.randint(-1, 2, each.shape) / 8)
    parameters = flat_parameters(model)
    found = [gradient(kernels_of(chain, variant), parameters, images, labels) for variant in VARIANTS]
    loss, expected = gradient_in_double(model, images, labels)
    assert len({(each_loss, each.numpy().tobytes()) for each_loss, each in found}) == 1
    assert found[0][0] / number == pytest.approx(loss, rel=1e-5, abs=1e-6)
    assert len(expected) == chain.num_parameters
    error = torch.linalg.vector_norm(found[0][1].double() - expected)
    assert float(error) <= 1e-5 * float(torch.linalg.vector_norm(expected)) + 1e-7


def gradient(kernels: Kernels, parameters: Tensor, images: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    out = torch.full_like(parameters, math.nan)
    return kernels.gradient(parameters, images, labels, out), out


@pytest.mark.parametrize("number", [1, 10, 63, 64, 65, 130])
@pytest.mark.parametrize("name", MODELS)
def test_what_the_memory_held_before_does_not_matter(name: str, number: int) -> None:
    """It is used again, and a model that diverged may have left what is no number in it."""
    chain = build_model(name).chain  # type: ignore[attr-defined]
    kernels, parameters, (images, labels) = kernels_of(chain), parameters_of(chain)[0], examples(chain, number)
    first = gradient(kernels, parameters, images, labels)
    for spare in kernels._spare.values():
        block = spare.get()
        block[: len(block) // 4 * 4].view(np.float32)[:] = math.nan
        spare.put(block)
    second = gradient(kernels, parameters, images, labels)
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])


TERMS = {
    "none": lambda _: None,
    "proximal": lambda start: AffineTerm(0.5, start),
    "added": lambda start: AffineTerm(added=torch.linspace(-0.01, 0.01, len(start))),
    "both": lambda start: AffineTerm(0.5, start, torch.linspace(-0.01, 0.01, len(start))),
}


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("name", ["simple-cnn", "2nn"])
def test_a_whole_update_is_pytorchs_and_the_same_bits_by_all_variants(name: str, term: str) -> None:
    """Three epochs of batches of 7, the last of 2, against a call a step with PyTorch's gradients."""
    torch.manual_seed(0)
    model = build_model(name)
    chain: Chain = model.chain  # type: ignore[attr-defined]
    data = ClientData(*examples(chain, 23))
    plain = FlatModel(model)
    start, plain.kernels = plain.vector.clone(), None
    stream = numpy_stream(0, Purpose.BATCH_ORDER)
    order = np.stack([stream.permutation(23) for _ in range(3)])
    found = []
    for variant in VARIANTS:
        parameters = start.clone()
        update = (data.inputs, data.labels, order, 7, 0.05, TERMS[term](start), Stop())
        found.append((kernels_of(chain, variant).update(parameters, *update), parameters))
    assert len({(loss, each.numpy().tobytes()) for loss, each in found}) == 1
    total = 0.0
    for epoch in order:
        for chosen in torch.from_numpy(epoch).split(7):
            plain.gradients.zero_()
            loss = F.cross_entropy(plain.module(data.inputs[chosen]), data.labels[chosen], reduction="mean")
            loss.backward()
            if (added := TERMS[term](start)) is not None:
                plain.gradients.add_(added(plain.parameters.detach()))
            plain.descend(0.05)
            total += loss.item() * len(chosen)
    moved = float(torch.linalg.vector_norm(plain.vector - start))
    assert float(torch.linalg.vector_norm(found[0][1] - plain.vector)) < 1e-4 * moved
    assert found[0][0] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_an_evaluation_is_pytorchs_and_the_same_bits_whatever_the_threads_and_variants(name: str) -> None:
    model = build_model(name)
    chain: Chain = model.chain  # type: ignore[attr-defined]
    images, labels = examples(chain, 600 if name == "2nn" else 150)
    found = evaluate(model, images, labels)
    assert found.loss == evaluate(model, images, labels, num_threads=3).loss
    with torch.no_grad():
        output = model(images)
    assert found.loss == pytest.approx(F.cross_entropy(output, labels).item(), rel=1e-5)
    assert found.num_correct == int((output.argmax(1) == labels).sum())
    totals = {kernels_of(chain, each).evaluate(flat_parameters(model), images, labels)[0] for each in VARIANTS}
    assert len(totals) == 1


def test_the_exponential_and_the_logarithm_are_within_two_units_in_the_last_place() -> None:
    """Of logits 0 and −x and the first class, the loss is ln(1 + e^−x), and the second slope e^−x/(1 + e^−x)."""
    chain = Chain((1, 1, 1), units=(2,))
    worst = 0.0
    for x in np.linspace(0.0, 100.0, 2001, dtype=np.float32):
        parameters = torch.tensor([0.0, 0.0, 0.0, -float(x)])
        loss, slopes = gradient(kernels_of(chain), parameters, torch.zeros(1, 1, 1, 1), torch.tensor([0]))
        e = math.exp(-float(x))
        share = np.float32(e / (1 + e))
        worst = max(worst, abs(float(slopes[3]) - e / (1 + e)) / float(np.spacing(share)))
        assert loss == pytest.approx(math.log1p(e), rel=2e-7, abs=1.2e-7)
    assert worst <= 4  # the exponential, the sum and the quotient round once each


def test_extreme_logits_give_what_pytorch_gives() -> None:
    chain = Chain((1, 1, 1), units=(3,))
    finite = ([1e30, 0.0, -1e30], [0.0, 3e38, 3e38], [-200.0, 0.0, 0.0])
    for logits in (*finite, [math.inf, 0.0, 0.0], [math.nan, 0.0, 1.0]):
        parameters = torch.tensor([0.0, 0.0, 0.0, *logits])
        loss, slopes = gradient(kernels_of(chain), parameters, torch.zeros(1, 1, 1, 1), torch.tensor([0]))
        output = torch.tensor([logits], requires_grad=True)
        expected = F.cross_entropy(output, torch.tensor([0]))
        expected.backward()
        assert loss == pytest.approx(expected.item(), nan_ok=True)
        assert output.grad is not None
        assert slopes[3:].tolist() == pytest.approx(output.grad[0].tolist(), nan_ok=True)


def test_what_is_not_a_number_in_an_image_is_not_one_in_the_loss() -> None:
    for name in MODELS:
        model = build_model(name)
        images, labels = examples(model.chain, 3)  # type: ignore[attr-defined]
        images[1, 0, 10, 10] = math.nan
        assert math.isnan(evaluate(model, images, labels).loss)


def test_of_equal_logits_the_first_class_is_predicted_and_what_is_no_number_is_the_largest() -> None:
    kernels = kernels_of(Chain((1, 1, 1), units=(3,)))
    for logits, predicted in (([1.0, 1.0, 0.0], 0), ([0.0, math.nan, math.inf], 1)):
        parameters = torch.tensor([0.0, 0.0, 0.0, *logits])
        _, counts = kernels.evaluate(parameters, torch.zeros(4, 1, 1, 1), torch.full((4,), 2))
        assert counts[2].tolist() == [4 * (each == predicted) for each in range(3)]


def test_an_update_stops_within_a_fraction_of_a_second() -> None:
    chain: Chain = build_model("simple-cnn").chain  # type: ignore[attr-defined]
    images, labels = examples(chain, 500)
    order, stop = np.tile(np.arange(500), (1000, 1)), Stop()
    update = (parameters_of(chain)[0], images, labels, order, 50, 0.01, None, stop)
    thread = threading.Thread(target=kernels_of(chain).update, args=update)
    thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    stop.set()
    thread.join()
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (torch.zeros(3, 1, 28, 28), torch.tensor([0, 1, 10])),
        (torch.zeros(3, 1, 28, 28), torch.tensor([0, -1, 1])),
        (torch.zeros(3, 1, 20, 28), torch.tensor([0, 1, 2])),
        (torch.zeros(3, 1, 28, 28, dtype=torch.float64), torch.tensor([0, 1, 2])),
    ],
)
def test_examples_that_do_not_fit_are_pytorchs_to_refuse(inputs: Tensor, labels: Tensor) -> None:
    with pytest.raises((RuntimeError, IndexError)):
        client_update(FlatModel(build_model("simple-cnn")), ClientData(inputs, labels), 1, 3, 0.1, stream_of_batches())


def stream_of_batches() -> np.random.Generator:
    return numpy_stream(0, Purpose.BATCH_ORDER)


@pytest.mark.parametrize("options", [{"clip_norm": 0.1}, {"augment": lambda inputs: inputs.flip(-1)}])
def test_a_step_that_pytorch_takes_has_the_kernels_gradient(options: dict[str, Any]) -> None:
    """Within rounding of PyTorch's own."""
    found = []
    for uses_kernels in (True, False):
        torch.manual_seed(0)
        model = FlatModel(build_model("simple-cnn"))
        assert model.kernels is not None
        model.kernels = model.kernels if uses_kernels else None
        data = ClientData(*examples(model.module.chain, 20))  # type: ignore[attr-defined]
        loss = client_update(model, data, 2, 8, 0.1, stream_of_batches(), **options)
        found.append((loss, model.vector.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)
    assert not torch.equal(found[0][1], found[1][1])


def test_a_subclass_with_another_forward_and_a_frozen_layer_are_pytorchs() -> None:
    class Other(type(build_model("2nn"))):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    assert FlatModel(build_model("2nn")).kernels is not None
    assert FlatModel(Other()).kernels is None
    frozen = build_model("2nn")
    next(frozen.parameters()).requires_grad_(False)
    assert FlatModel(frozen).kernels is None
    assert FlatModel(build_model("2nn").double()).kernels is None

    class OfTheirOwn(nn.Linear):
        chain = "a name that means something else here"

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    assert FlatModel(OfTheirOwn(2, 2)).kernels is None


def test_sums_are_kept_in_double_precision() -> None:
    total, ones = torch.zeros(3, dtype=torch.float64), torch.full((3,), 0.1)
    for _ in range(1000):
        assert add_scaled(total, ones, 0.001)
    assert total.tolist() == pytest.approx([float(np.float32(0.1))] * 3, rel=1e-14)
    assert not add_scaled(total, ones.double(), 0.5)


def test_a_distance_is_the_one_computed_by_hand() -> None:
    first, second = torch.tensor([3.0, math.inf, 1.0]), torch.tensor([0.0, math.inf, -3.0])
    assert squared_distance(first, second) == 25.0
    assert squared_distance(first, second[:2]) is None


def test_initial_parameters_are_uniform_within_pytorchs_bounds() -> None:
    torch.manual_seed(0)
    weight = build_model("2nn").fc1.weight.detach()  # (200, 784)
    bound = 1 / math.sqrt(784)
    assert float(weight.abs().max()) <= bound
    assert float(weight.mean()) == pytest.approx(0, abs=3e-4)  # 4 standard errors
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_the_choice_is_the_fastest_variant() -> None:
    assert choice().name in (*VARIANTS, "torch")


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf])
def test_what_is_no_number_is_the_same_one_by_all_variants(value: float) -> None:
    """A sum that meets both infinities is another NaN on x86 than on Arm, and which of two NaNs stays is left open."""
    chain: Chain = build_model("simple-cnn").chain  # type: ignore[attr-defined]
    images, labels = examples(chain, 3)
    images[0, 0, 5, 5] = value
    stop, order = Stop(), np.arange(3)[None]
    for variant in VARIANTS:
        parameters = parameters_of(chain)[0]
        kernels_of(chain, variant).update(parameters, images, labels, order, 3, 0.1, None, stop)
        total = torch.zeros(len(parameters), dtype=torch.float64)
        assert add_scaled(total, parameters, 0.5)
        for bits in (parameters.view(torch.int32), total.float().view(torch.int32)):
            assert {0x7FC00000} == set(bits[parameters.isnan()].tolist())
