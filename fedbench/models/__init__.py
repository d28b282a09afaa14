"""The models: one file each, and one line each in `MODELS`. Listing them imports no torch.

A model is a class, or a function, that returns a `torch.nn.Module` with PyTorch's default initialisation, drawn from
the global random state. The module maps (B, C, H, W) float32 to (B, num_classes) logits or log-probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fedbench.util.options import Options

if TYPE_CHECKING:
    from torch import nn


class WidthOption(Options):
    """The options of a model that comes in several widths."""

    width: Annotated[
        Literal[1, 2, 4, 8], Field(description="How many times the study's channels and hidden units it has.")
    ] = 1


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
    options
        The declaration of its options.
    """

    target: str
    image_shape: tuple[int, int, int]
    num_classes: int
    options: type[Options] = Options


MODELS: dict[str, ModelInfo] = {
    "simple-cnn": ModelInfo("fedbench.models.simple_cnn:SimpleCNN", (1, 28, 28), 10, WidthOption),
    "simple-cnn-ham": ModelInfo("fedbench.models.simple_cnn_ham:SimpleCNNHam", (3, 32, 32), 7),
    "2nn": ModelInfo("fedbench.models.two_nn:TwoNN", (1, 28, 28), 10),
    "cnn": ModelInfo("fedbench.models.cnn:CNN", (1, 28, 28), 10),
}


def build_model(name: str, **options: Any) -> nn.Module:
    """A new instance of a built-in model, with its options."""
    module, _, attribute = MODELS[name].target.partition(":")
    model: nn.Module = getattr(import_module(module), attribute)(**options)
    return model
