"""The built-in models: their shapes, their sizes and where their parameters come from."""

from pathlib import Path

import pytest
import torch

from fedbench.components import find
from fedbench.core import ClientData, FlatModel, fedavg
from fedbench.models import MODELS, build_model
from fedbench.suites.cell import CellSpec
from fedbench.util.options import declare_options


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


@pytest.mark.parametrize("name", MODELS)
def test_a_models_options_have_the_defaults_of_the_model_itself(name: str) -> None:
    own = declare_options(find("model", name).load())
    assert own().model_dump() == MODELS[name].options().model_dump()


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_a_wider_simple_cnn_has_more_channels_and_units_and_is_the_kernels_too(width: int) -> None:
    model = FlatModel(build_model("simple-cnn", width=width))
    w = width  # 5x5 convolutions of 10 w and 20 w channels, dense layers of 50 w and 10 units, each with its bias
    size = (25 * 10 * w + 10 * w) + (25 * 10 * w * 20 * w + 20 * w) + (320 * w * 50 * w + 50 * w) + (50 * w * 10 + 10)
    assert (size, size) == (len(model.vector), model.module.chain.num_parameters)  # type: ignore[attr-defined]
    stream = torch.Generator().manual_seed(0)
    client = ClientData(torch.randn(5, 1, 28, 28, generator=stream), torch.arange(5))
    options = {"rounds": 1, "local_epochs": 1, "learning_rate": 0.1, "batch_size": 2}
    results = [
        next(fedavg(build, [client], **options)).server.model.vector  # type: ignore[arg-type]
        for build in (lambda: build_model("simple-cnn", width=width), lambda: without_kernels(width))
    ]
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


def without_kernels(width: int) -> torch.nn.Module:
    """The same network, which is PyTorch's since it is in another module."""
    return torch.nn.Sequential(build_model("simple-cnn", width=width))


def test_the_width_of_a_cell_is_one_of_four_and_the_first_is_the_model_of_earlier_versions() -> None:
    plain, wide = CellSpec(), CellSpec(width=4)  # type: ignore[call-arg]
    assert (1, 4) == (plain.get("width"), wide.get("width"))
    assert (False, 4) == ("width" in plain.identity, wide.identity["width"])
    assert 40 == wide.build_model().conv1.out_channels  # type: ignore[union-attr]
    for wrong in (3, 0, "2"):
        with pytest.raises(ValueError, match="width"):
            CellSpec(width=wrong)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="width: model 2nn does not read it; leave it out, or set model to simple-cnn"):
        CellSpec(model="2nn", width=2)  # type: ignore[call-arg]


def test_a_width_of_1_of_another_model_counts(tmp_path: Path) -> None:
    """It may have another default, or none."""
    (tmp_path / "net.py").write_text("def net(width=1): ...\n")
    spec = CellSpec.model_validate({"model": f"{tmp_path}/net.py:net", "width": 1})
    assert 1 == spec.identity["width"]
