"""Images are shifted at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    import torch

Padding = Annotated[int, Field(ge=1, le=1_000)]


def random_crop(inputs: torch.Tensor, generator: torch.Generator, crop_padding: Padding = 4) -> torch.Tensor:
    """Each image (C, H, W) is padded with zeros on all sides, and a random window of H x W is cut out.

    A zero is the mean of a channel, or black where pixels are in [0, 1].

    Parameters
    ----------
    crop_padding
        Pixels on each side.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812 - the field's own name for it

    number, _, height, width = inputs.shape
    padded = F.pad(inputs, (crop_padding,) * 4)  # (B, C, H + 2p, W + 2p)
    top, left = torch.randint(2 * crop_padding + 1, (2, number, 1), generator=generator).to(inputs.device)
    rows, columns = (top + torch.arange(height, device=inputs.device), left + torch.arange(width, device=inputs.device))
    image = torch.arange(number, device=inputs.device)
    cut = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return cut.permute(0, 3, 1, 2)
