"""The models: one file each, and one line each in `MODELS`. Listing them imports no torch.

A model is a class, or a function, that returns a `torch.nn.Module` with PyTorch's default initialisation, drawn from
the global random state. The module maps (B, C, H, W) float32 to (B, num_classes) logits or log-probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without importing it.

    Attributes
    ----------
    target
        ``module:class``.
    image_shape
        Channels, height, width of its input.
    num_classes
        Size of its output.
    """

    target: str
    image_shape: tuple[int, int, int]
    num_classes: int


MODELS: dict[str, ModelInfo] = {
    "simple-cnn": ModelInfo("fedbench.models.simple_cnn:SimpleCNN", (1, 28, 28), 10),
    "simple-cnn-ham": ModelInfo("fedbench.models.simple_cnn_ham:SimpleCNNHam", (3, 32, 32), 7),
    "2nn": ModelInfo("fedbench.models.two_nn:TwoNN", (1, 28, 28), 10),
    "cnn": ModelInfo("fedbench.models.cnn:CNN", (1, 28, 28), 10),
}


def build_model(name: str) -> nn.Module:
    """A new instance of a built-in model."""
    module, _, attribute = MODELS[name].target.partition(":")
    model: nn.Module = getattr(import_module(module), attribute)()
    return model
