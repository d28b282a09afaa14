"""Augmentations: what each image becomes, and that chance comes from the streams of the run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedbench.components import built_in_names, find
from fedbench.core import ClientData, Purpose, fedavg, torch_stream


def augment(name: str, inputs: Tensor, seed: int = 0, **options: Any) -> Tensor:
    found: Tensor = find("augmentation", name).make(**options)(inputs, torch.Generator().manual_seed(seed))
    return found


def numbered(number: int, height: int = 5, width: int = 4) -> Tensor:
    """Images of two channels, no two of whose pixels are equal, and none of which is 0."""
    return torch.arange(1.0, 1 + number * 2 * height * width).view(number, 2, height, width)


def test_a_flip_mirrors_about_half_of_the_images_whole() -> None:
    inputs = numbered(1_000)
    flipped = augment("horizontal-flip", inputs)
    mirrored = (flipped == inputs.flip(-1)).flatten(1).all(1)
    same = (flipped == inputs).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 440 < mirrored.sum() < 560  # four standard deviations of 1000 fair coins are 63


def test_a_crop_is_the_image_shifted_with_zeros_at_its_edge() -> None:
    inputs = numbered(2_000)
    cropped = augment("random-crop", inputs, crop_padding=1)
    shifts = {(down, right): 0 for down in (-1, 0, 1) for right in (-1, 0, 1)}
    padded = nn.functional.pad(inputs, (1, 1, 1, 1))
    for down, right in shifts:
        window = padded[:, :, 1 - down : 6 - down, 1 - right : 5 - right]
        shifts[down, right] = int((cropped == window).flatten(1).all(1).sum())
    assert 2_000 == sum(shifts.values())
    assert all(165 < count < 280 for count in shifts.values())  # 222 expected, four standard deviations are 56


def test_crop_and_flip_are_a_crop_and_then_a_flip() -> None:
    inputs, stream = numbered(50), torch.Generator().manual_seed(3)
    expected = find("augmentation", "random-crop").make(crop_padding=2)(inputs, stream)
    expected = find("augmentation", "horizontal-flip").make()(expected, stream)
    assert torch.equal(expected, augment("crop-and-flip", inputs, seed=3, crop_padding=2))


@pytest.mark.parametrize("name", built_in_names("augmentation"))
def test_an_augmentation_keeps_shape_and_its_input_and_depends_on_its_generator_alone(name: str) -> None:
    inputs = numbered(20).contiguous(memory_format=torch.channels_last)
    before, state = inputs.clone(), torch.get_rng_state()
    changed = augment(name, inputs)
    assert (inputs.shape, inputs.dtype) == (changed.shape, changed.dtype)
    assert torch.equal(before, inputs)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(changed, augment(name, inputs))
    assert ("none" == name) == torch.equal(changed, augment(name, inputs, seed=1))


# In a run


def client(number: int, size: int = 6) -> ClientData:
    stream = torch.Generator().manual_seed(number)
    return ClientData(torch.randn(size, 1, 4, 4, generator=stream), torch.arange(size) % 2)


def build() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def run(augmentation: Any, **options: Any) -> Tensor:
    settings = {"rounds": 2, "local_epochs": 2, "learning_rate": 0.1, "batch_size": 4, "seed": 7} | options
    *_, result = fedavg(build, [client(0), client(1)], augmentation=augmentation, **settings)
    return result.server.model.vector


def test_each_client_and_round_has_its_own_stream() -> None:
    drawn: list[float] = []

    def note(inputs: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.rand((), generator=generator).item())
        return inputs

    run(note, local_epochs=1)
    first, _ = drawn[0], drawn.pop(0)  # the trainer tries the augmentation once
    expected = []
    for t in (1, 2):
        for k in (0, 1):
            stream = torch_stream(7, Purpose.AUGMENTATION, t, k)
            expected += [torch.rand((), generator=stream).item() for _ in range(2)]  # batches of 4 and 2
    assert expected == drawn
    assert first not in drawn


@pytest.mark.parametrize("name", ["horizontal-flip", "crop-and-flip"])
def test_the_bits_do_not_depend_on_threads(name: str) -> None:
    made = find("augmentation", name).make()
    assert torch.equal(run(made), run(made, num_threads=lambda: 2))
    assert not torch.equal(run(made), run(None))
    assert torch.equal(run(None), run(find("augmentation", "none").make()))


def test_an_augmentation_that_draws_from_the_global_state_trains_clients_in_turn_with_the_same_bits() -> None:
    def noisy(inputs: Tensor, _: torch.Generator) -> Tensor:
        return inputs + torch.rand_like(inputs)

    torch.manual_seed(1)
    first = run(noisy, num_threads=lambda: 2)
    torch.manual_seed(2)
    assert torch.equal(first, run(noisy))


def test_images_of_another_size_are_right_where_the_model_takes_them() -> None:
    def build_any() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    options = {"rounds": 1, "local_epochs": 1, "learning_rate": 0.1}
    crop = fedavg(build_any, [client(0)], augmentation=lambda inputs, _: inputs[..., :3, :3], **options)
    assert 1 == next(crop).round


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda inputs, _: inputs[:1], r"returned shape \(1, 1, 4, 4\) and .* for inputs of shape \(4, 1, 4, 4\)"),
        (lambda inputs, _: inputs.double(), r"returned shape .* and type torch.float64 for inputs of"),
        (lambda inputs, _: inputs.numpy(), "returned a ndarray instead of a tensor"),
    ],
)
def test_what_is_no_batch_of_the_same_size_is_one_line(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"client 0: augmentation: it {said}"):
        run(wrong)
