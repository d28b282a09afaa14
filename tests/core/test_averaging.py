"""The server's half of Federated Averaging, with numbers that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedbench.core import (
    ModelState,
    WeightedMean,
    average_model_parameters,
    distance,
    interpolate,
    normalise_weights,
)

UNUSABLE_WEIGHTS = [
    ([1.0, -1.0], "weight 1 is -1.0: weights must be finite and not negative"),
    ([float("nan"), 1.0], "weight 0 is nan: weights must be finite and not negative"),
    ([1.0, float("inf")], "weight 1 is inf: weights must be finite and not negative"),
    ([0.0, 0.0], "all weights are zero: at least one must be positive"),
    ([1e308, 1e308], "the sum of the weights is not finite"),
]


def linear(weight: list[float], bias: float) -> nn.Linear:
    """A linear unit with these parameters."""
    module = nn.Linear(len(weight), 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([weight]))
        module.bias.fill_(bias)
    return module


def batch_norm(mean: float, variance: float, num_batches: int) -> nn.BatchNorm1d:
    """A BatchNorm layer that has seen `num_batches` batches."""
    module = nn.BatchNorm1d(1)
    module.running_mean.fill_(mean)
    module.running_var.fill_(variance)
    module.num_batches_tracked.fill_(num_batches)
    return module


def test_equal_weights_give_the_mean_of_every_parameter() -> None:
    average = average_model_parameters([linear([1.0, 2.0], 4.0), linear([3.0, 6.0], 0.0)], [0.5, 0.5])
    assert [[2.0, 4.0]] == average.weight.tolist()
    assert [2.0] == average.bias.tolist()


def test_unequal_weights_count_by_their_share() -> None:
    # 0.25 * 8 + 0.75 * 4 = 5 and 0.25 * 0 + 0.75 * 4 = 3
    average = average_model_parameters([linear([8.0], 0.0), linear([4.0], 4.0)], [0.25, 0.75])
    assert [[5.0]] == average.weight.tolist()
    assert [3.0] == average.bias.tolist()


def test_numbers_of_examples_are_weights_too() -> None:
    average = average_model_parameters([linear([8.0], 0.0), linear([4.0], 4.0)], [100, 300])
    assert [[5.0]] == average.weight.tolist()
    assert [3.0] == average.bias.tolist()


def test_a_model_of_weight_zero_does_not_count() -> None:
    average = average_model_parameters([linear([7.0], 7.0), linear([1.0], 2.0)], [0, 5])
    assert ([[1.0]], [2.0]) == (average.weight.tolist(), average.bias.tolist())


def test_the_models_given_are_not_changed_and_share_nothing_with_the_average() -> None:
    models = [linear([1.0], 1.0), linear([3.0], 3.0)]
    average = average_model_parameters(models, [1, 1])
    with torch.no_grad():
        average.weight.fill_(99.0)
    assert [1.0, 3.0] == [model.weight.item() for model in models]
    assert [1.0, 3.0] == [model.bias.item() for model in models]


def test_running_statistics_of_batch_norm_are_averaged() -> None:
    average = average_model_parameters([batch_norm(0.0, 1.0, 5), batch_norm(4.0, 9.0, 5)], [3, 1])
    assert [1.0] == average.running_mean.tolist()
    assert [3.0] == average.running_var.tolist()


def test_a_counter_is_that_of_the_largest_weight() -> None:
    average = average_model_parameters([batch_norm(0.0, 1.0, 5), batch_norm(0.0, 1.0, 8)], [1, 3])
    assert 8 == average.num_batches_tracked.item()


def test_of_equally_large_weights_the_first_gives_the_counter() -> None:
    average = average_model_parameters([batch_norm(0.0, 1.0, n) for n in (5, 8, 9)], [1, 2, 2])
    assert 8 == average.num_batches_tracked.item()


def test_tied_parameters_stay_tied_and_are_averaged_once() -> None:
    class Tied(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.first = nn.Linear(1, 1, bias=False)
            self.second = nn.Linear(1, 1, bias=False)
            self.second.weight = self.first.weight
            nn.init.constant_(self.first.weight, value)

    average = average_model_parameters([Tied(2.0), Tied(6.0)], [1, 1])
    assert 4.0 == average.first.weight.item()
    assert average.second.weight is average.first.weight


def test_models_may_come_from_a_generator() -> None:
    average = average_model_parameters((linear([value], 0.0) for value in (1.0, 2.0, 6.0)), [1, 1, 1])
    assert 3.0 == pytest.approx(average.weight.item())


def test_no_models_are_refused() -> None:
    with pytest.raises(ValueError, match="no models"):
        average_model_parameters([], [])


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0]])
def test_another_number_of_weights_than_of_models_is_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=f"there are 2 models but {len(weights)} weights"):
        average_model_parameters([linear([1.0], 0.0), linear([2.0], 0.0)], weights)


@pytest.mark.parametrize(("weights", "message"), UNUSABLE_WEIGHTS)
def test_unusable_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average_model_parameters([linear([1.0], 0.0), linear([2.0], 0.0)], weights)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (nn.Linear(2, 1, bias=False), "only one of them has 'bias'"),
        (nn.Linear(3, 1), r"'weight' is \(1, 3\)"),
        (nn.Linear(2, 1).double(), "torch.float64"),
        (nn.BatchNorm1d(2), "only one of them has"),
    ],
)
def test_another_architecture_is_refused_by_name_shape_and_type(other: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=rf"model 1 has another architecture than model 0: .*{name}"):
        average_model_parameters([nn.Linear(2, 1), other], [1, 1])


def test_weights_are_scaled_to_sum_to_one() -> None:
    assert [0.25, 0.75] == normalise_weights([2, 6])
    assert [1.0] == normalise_weights([17])
    assert 1.0 == pytest.approx(sum(normalise_weights([0.1] * 7)), abs=1e-15)


@pytest.mark.parametrize(("weights", "message"), [([], "there are no weights"), *UNUSABLE_WEIGHTS])
def test_weights_that_make_no_average_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalise_weights(weights)


def test_states_are_averaged_by_their_shares_with_the_counters_of_the_largest() -> None:
    mean = WeightedMean()
    given = [ModelState(torch.tensor([value, -value]), (torch.tensor(int(10 * value)),)) for value in (1.0, 5.0)]
    for state, share in zip(given, (0.75, 0.25), strict=True):
        mean.add(state, share)
    assert [2.0, -2.0] == mean.state().vector.tolist()  # 0.75 * 1 + 0.25 * 5
    assert 10 == mean.state().counters[0].item()
    assert [[1.0, -1.0], [5.0, -5.0]] == [state.vector.tolist() for state in given]  # they are not changed


def test_the_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no models"):
        WeightedMean().state()


def test_a_model_without_weight_has_no_say_even_if_it_is_not_finite() -> None:
    sound, broken = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        sound.weight.fill_(2.0)
        broken.weight.fill_(float("inf"))
    assert 2.0 == average_model_parameters([sound, broken], [1, 0]).weight.item()


def test_models_and_weights_may_be_generators() -> None:
    def constant(value: float) -> nn.Linear:
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, value)
        return model

    average = average_model_parameters((constant(value) for value in (1.0, 3.0)), (weight for weight in (1, 3)))
    assert 2.5 == average.weight.item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("number", [10, 100, 1000])
def test_in_low_precision_the_mean_of_equal_models_is_the_model(dtype: torch.dtype, number: int) -> None:
    model = linear([1.0, 0.75], 3.0).to(dtype)
    average = average_model_parameters([model] * number, [1] * number)
    assert ([[1.0, 0.75]], [3.0], dtype) == (average.weight.tolist(), average.bias.tolist(), average.weight.dtype)
    mean = WeightedMean()
    for _ in range(number):
        mean.add(ModelState(torch.ones(3, dtype=dtype)), 1 / number)
    assert torch.equal(torch.ones(3, dtype=dtype), mean.state().vector)


def test_a_mean_in_low_precision_may_hold_the_largest_numbers() -> None:
    largest = torch.finfo(torch.float16).max
    mean = WeightedMean()
    for _ in range(7):
        mean.add(ModelState(torch.tensor([largest, -largest], dtype=torch.float16)), 1 / 7)
    assert [largest, -largest] == mean.state().vector.tolist()


def masked(weight: float) -> nn.Linear:
    """A linear unit with a mask of infinities, as attention has one, in a buffer and in a frozen parameter."""
    module, mask = linear([weight], 0.0), torch.tensor([0.0, -math.inf, math.inf])
    module.register_buffer("mask", mask)
    module.frozen = nn.Parameter(mask.clone(), requires_grad=False)
    return module


def test_constant_infinities_stay_what_they_are() -> None:
    first, second = masked(4.0), masked(1.0)
    between = [interpolate(first, second, theta) for theta in (-0.2, 0.0, 0.5, 1.0, 1.2)]
    for made in (average_model_parameters([first, second], [1, 2]), *between):
        assert torch.equal(first.mask, made.mask)
        assert torch.equal(first.mask, made.frozen)
    assert 3.0 == distance(first, second)


# The line through two models


@pytest.mark.parametrize(
    ("theta", "weight", "bias"),
    [
        (1.0, [1.0, 2.0], 4.0),
        (0.0, [3.0, 6.0], 0.0),
        (0.5, [2.0, 4.0], 2.0),
        # -0.2 * 1 + 1.2 * 3 = 3.4, -0.2 * 2 + 1.2 * 6 = 6.8 and -0.2 * 4 + 1.2 * 0 = -0.8
        (-0.2, [3.4, 6.8], -0.8),
        (1.2, [0.6, 1.2], 4.8),
    ],
)
def test_a_model_on_the_line_is_theta_of_the_first_and_the_rest_of_the_second(
    theta: float, weight: list[float], bias: float
) -> None:
    between = interpolate(linear([1.0, 2.0], 4.0), linear([3.0, 6.0], 0.0), theta)
    assert pytest.approx(weight) == between.weight.tolist()[0]
    assert pytest.approx(bias) == between.bias.item()


def test_the_ends_of_the_line_are_the_two_models_to_the_last_bit() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (nn.Sequential(nn.Linear(50, 50), nn.BatchNorm1d(50)) for _ in range(2))
        first[1].running_mean.normal_(std=1e6)
        second[1].running_mean.normal_(std=1e-6)
    for theta, end in ((1.0, first), (0.0, second)):
        between = interpolate(first, second, theta).state_dict()
        assert all(torch.equal(tensor, between[name]) for name, tensor in end.state_dict().items()), theta


def test_the_middle_of_the_line_is_the_average_of_two_alike() -> None:
    first, second = linear([1.0, 3.0], -1.0), linear([2.0, 8.0], 5.0)
    average = average_model_parameters([first, second], [100, 100])
    middle = interpolate(first, second, 0.5)
    assert torch.equal(average.weight, middle.weight)
    assert torch.equal(average.bias, middle.bias)


def test_on_the_line_running_statistics_go_along_and_the_counter_is_the_firsts() -> None:
    between = interpolate(batch_norm(2.0, 1.0, 7), batch_norm(4.0, 3.0, 9), 0.25)
    found = (between.running_mean.item(), between.running_var.item(), between.num_batches_tracked.item())
    assert (3.5, 2.5, 7) == found


def test_the_models_at_the_ends_of_the_line_are_not_changed() -> None:
    first, second = linear([1.0], 1.0), linear([3.0], 3.0)
    interpolate(first, second, 0.5).weight.data.zero_()
    assert (1.0, 3.0) == (first.weight.item(), second.weight.item())


def test_the_distance_of_two_models_is_that_of_their_parameters() -> None:
    # (4 - 1, 2 - 2, 7 - 3) = (3, 0, 4), whose length is 5
    assert 5.0 == distance(linear([4.0, 2.0], 7.0), linear([1.0, 2.0], 3.0))
    assert 0.0 == distance(linear([4.0, 2.0], 7.0), linear([4.0, 2.0], 7.0))
    assert 0.0 == distance(batch_norm(1.0, 2.0, 3), batch_norm(9.0, 9.0, 9))  # buffers are no parameters


def test_a_distance_in_low_precision_does_not_overflow() -> None:
    first, second = (linear([value] * 4, 0.0).half() for value in (20_000.0, -20_000.0))
    assert 80_000.0 == distance(first, second)  # 2 * 40,000, above the 65,504 of float16


def test_models_of_different_size_have_no_distance() -> None:
    with pytest.raises(ValueError, match="zip"):
        distance(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
