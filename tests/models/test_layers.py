"""The shared layers against PyTorch's plain ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from fedbench.models.layers import pooled_relu

SHAPES = [(1, 10, 28), (10, 20, 12), (3, 16, 32), (16, 32, 14), (1, 1, 9)]  # channels in and out, height and width


def plain(x: Tensor, convolution: nn.Conv2d, size: int) -> Tensor:
    """The specification."""
    return torch.relu(F.max_pool2d(convolution(x), size))


def with_gradients(
    layer: Callable[[Tensor, nn.Conv2d, int], Tensor], channels: tuple[int, int], x: Tensor, size: int
) -> list[Tensor]:
    """The output, the gradients of weights and bias, and the one of `x` if it needs one."""
    torch.manual_seed(1)
    convolution = nn.Conv2d(*channels, kernel_size=5)
    output = layer(x, convolution, size)
    output.square().sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in convolution.parameters())]
    x.grad = None
    return [output.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("needs_gradient", [False, True])
@pytest.mark.parametrize(("before", "after", "side"), SHAPES)
def test_it_is_relu_of_max_pooling_of_the_convolution(
    before: int, after: int, side: int, needs_gradient: bool, size: int
) -> None:
    """To 1e-5 of the largest value: float32 sums of up to 10,000 terms in another order."""
    x = torch.randn(7, before, side, side, generator=torch.Generator().manual_seed(0), requires_grad=needs_gradient)
    expected = with_gradients(plain, (before, after), x, size)
    found = with_gradients(pooled_relu, (before, after), x, size)
    assert (4 if needs_gradient else 3) == len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        assert (one - other).abs().max().item() <= 1e-5 * one.abs().max().item()


def test_the_bits_do_not_depend_on_the_layout_of_the_input() -> None:
    convolution = nn.Conv2d(3, 16, 5)
    x = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(
            pooled_relu(x, convolution), pooled_relu(x.contiguous(memory_format=torch.channels_last), convolution)
        )


def test_other_types_than_float32_work_too() -> None:
    convolution = nn.Conv2d(1, 2, 5).double()
    x = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    assert torch.equal(plain(x, convolution, 2), pooled_relu(x, convolution))


def test_ties_pass_the_gradient_to_the_first_as_plain_pooling_does() -> None:
    """A constant image, as MNIST's background: all four values of each window are equal."""
    x = torch.ones(1, 1, 12, 12)
    for expected, found in zip(
        with_gradients(plain, (1, 2), x, 2), with_gradients(pooled_relu, (1, 2), x, 2), strict=True
    ):
        assert torch.allclose(expected, found, rtol=1e-5)
