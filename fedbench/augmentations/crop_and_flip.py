"""Images are shifted and mirrored at random, as is usual for CIFAR (He et al., 2015, arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbench.augmentations.crop import Padding, random_crop
from fedbench.augmentations.flip import horizontal_flip

if TYPE_CHECKING:
    import torch


def crop_and_flip(inputs: torch.Tensor, generator: torch.Generator, crop_padding: Padding = 4) -> torch.Tensor:
    """`random-crop`, then `horizontal-flip`.

    Parameters
    ----------
    crop_padding
        Pixels on each side.
    """
    return horizontal_flip(random_crop(inputs, generator, crop_padding), generator)
