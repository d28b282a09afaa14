"""The built-in models: their shapes, their sizes and where their parameters come from."""

import pytest
import torch

from fedbench.core import FlatModel
from fedbench.models import MODELS, build_model


@pytest.mark.parametrize("name", MODELS)
def test_every_model_fits_its_declared_shapes(name: str) -> None:
    info = MODELS[name]
    model = build_model(name)
    with torch.no_grad():
        output = model(torch.zeros(2, *info.image_shape))
    assert ((2, info.num_classes), torch.float32) == (tuple(output.shape), output.dtype)
    torch.testing.assert_close(output[0], output[1])
    FlatModel(model)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_drawn_from_the_global_random_state(name: str) -> None:
    def draw(seed: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.cat([parameter.flatten() for parameter in build_model(name).parameters()])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_models_have_the_published_numbers_of_parameters() -> None:
    def dense(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    # 5x5 convolutions have 25 weights for each pair of channels, and a bias each.
    expected = {
        "simple-cnn": (25 * 1 * 10 + 10) + (25 * 10 * 20 + 20) + dense(20 * 4 * 4, 50) + dense(50, 10),
        "simple-cnn-ham": (25 * 3 * 16 + 16) + (25 * 16 * 32 + 32) + dense(32 * 5 * 5, 120) + dense(120, 7),
        "2nn": 199_210,
        "cnn": 1_663_370,
    }
    assert expected == {name: sum(each.numel() for each in build_model(name).parameters()) for name in MODELS}
