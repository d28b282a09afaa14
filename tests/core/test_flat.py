"""`FlatModel`: the module keeps its values, and its storage becomes one vector."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import nn

from fedbench.core import FlatModel, ModelState


def small_network() -> nn.Sequential:
    """A convolution, BatchNorm and a dense layer: 2*(1*3*3)+2, 2+2, 2*4*2+2 parameters and 2+2 floating buffers."""
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


def test_the_modules_values_are_kept() -> None:
    module = small_network()
    before = copy.deepcopy(module.state_dict())
    flat = FlatModel(module)
    assert flat.module is module
    for name, value in module.state_dict().items():
        assert torch.equal(before[name], value), name


def test_the_vector_holds_parameters_then_floating_buffers() -> None:
    flat = FlatModel(small_network())
    assert (42, 42, 46) == (flat.parameters.numel(), flat.gradients.numel(), flat.vector.numel())
    assert [0.0, 0.0, 1.0, 1.0] == flat.vector[42:].tolist()  # running mean, running variance
    assert [0] == [counter.item() for counter in flat.counters]


def test_parameters_and_buffers_are_views_of_the_vector() -> None:
    flat = FlatModel(small_network())
    flat.vector.fill_(7.0)
    tensors = [*flat.module.parameters(), flat.module[1].running_mean, flat.module[1].running_var]
    assert all((tensor == 7.0).all() for tensor in tensors)


def test_gradients_are_views_of_one_vector() -> None:
    flat = FlatModel(small_network())
    flat.module(torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    parts = torch.cat([parameter.grad.flatten() for parameter in flat.module.parameters()])
    assert parts.abs().sum().item() > 0
    assert sorted(parts.tolist()) == sorted(flat.gradients.tolist())  # the convolution's are in another order


def test_convolution_weights_and_their_gradients_are_channels_last() -> None:
    flat = FlatModel(nn.Conv2d(4, 2, 3))
    # (O, I, H, W) = (2, 4, 3, 3), stored as O, H, W, I: strides 36, 1, 12, 4
    assert (36, 1, 12, 4) == flat.module.weight.stride()
    assert (36, 1, 12, 4) == flat.module.weight.grad.stride()


def test_a_step_is_parameters_minus_learning_rate_times_gradients() -> None:
    flat = FlatModel(nn.Linear(2, 1))
    flat.parameters.copy_(torch.tensor([1.0, 2.0, 3.0]))
    flat.gradients.copy_(torch.tensor([10.0, -10.0, 2.0]))
    flat.descend(0.5)
    assert [[-4.0, 7.0]] == flat.module.weight.tolist()
    assert [2.0] == flat.module.bias.tolist()


def test_one_step_of_a_linear_model_is_the_one_computed_by_hand() -> None:
    # w = (1, 0), x = (2, 3), target 0: the loss is (w·x)²/2 = 2, its gradient is (w·x) x = (4, 6); η = 0.1
    flat = FlatModel(nn.Linear(2, 1, bias=False))
    flat.parameters.copy_(torch.tensor([1.0, 0.0]))
    loss = flat.module(torch.tensor([[2.0, 3.0]])).square().sum() / 2
    loss.backward()
    assert [4.0, 6.0] == flat.gradients.tolist()
    flat.descend(0.1)
    assert [0.6, -0.6] == pytest.approx(flat.parameters.tolist())


def test_buffers_are_not_moved_by_a_step() -> None:
    flat = FlatModel(nn.BatchNorm1d(1))
    flat.gradients.fill_(1.0)
    flat.descend(1.0)
    assert [0.0, -1.0, 0.0, 1.0] == flat.vector.tolist()  # weight 1 -> 0, bias 0 -> -1; mean and variance stay


def test_frozen_parameters_are_not_trained() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].weight.requires_grad_(False)
    flat = FlatModel(module)
    before = module[0].weight.clone()
    module(torch.ones(1, 2)).sum().backward()
    flat.descend(0.1)
    assert torch.equal(before, module[0].weight)
    assert module[0].weight.grad is None
    assert module[1].bias.grad.item() == 1.0


def test_tied_parameters_are_one_piece_of_the_vector() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    flat = FlatModel(module)
    assert 4 == flat.vector.numel()
    flat.vector.fill_(3.0)
    assert (module[1].weight == 3.0).all()


@pytest.mark.parametrize(
    "module", [nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).double()), nn.BatchNorm1d(1).half().float()]
)
def test_parameters_of_several_types_are_refused(module: nn.Module) -> None:
    if isinstance(module, nn.BatchNorm1d):
        module.running_mean = module.running_mean.double()
    with pytest.raises(ValueError, match=r"must be of one type, not \['torch.float32', 'torch.float64'\]"):
        FlatModel(module)


def test_a_module_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        FlatModel(nn.ReLU())


def test_a_state_is_a_copy_and_loading_it_brings_everything_back() -> None:
    flat = FlatModel(small_network())
    inputs = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    flat.module.train()(inputs)  # moves the running statistics and the counter
    state = flat.state()
    output = flat.module.eval()(inputs)
    flat.module.train()(inputs + 1)
    flat.vector.add_(1.0)
    assert not torch.equal(output, flat.module.eval()(inputs))
    flat.load(state)
    assert torch.equal(output, flat.module.eval()(inputs))
    assert 1 == flat.module[1].num_batches_tracked.item()


def test_a_state_goes_from_one_model_to_another() -> None:
    first, second = FlatModel(small_network()), FlatModel(small_network())
    second.load(first.state())
    assert torch.equal(first.vector, second.vector)
    assert first.vector.data_ptr() != second.vector.data_ptr()


def test_a_state_with_other_counters_is_refused() -> None:
    flat = FlatModel(small_network())
    with pytest.raises(ValueError, match="zip"):
        flat.load(ModelState(flat.vector.clone(), ()))


def test_the_flat_model_computes_what_the_module_computed() -> None:
    module = small_network().eval()
    inputs = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    expected = module(inputs).detach()
    assert torch.allclose(expected, FlatModel(module).module(inputs), atol=1e-6)  # another layout, another order
    assert 0.0 < F.mse_loss(expected, torch.zeros_like(expected)).item()
