"""An augmentation of your own: a function that changes a batch of training inputs at random."""

import torch
from torch import Generator, Tensor


def my_augmentation(inputs: Tensor, generator: Generator, distance: int = 2) -> Tensor:
    """Move the images of a batch by some pixels, all in the same direction.

    Parameters
    ----------
    inputs
        (B, C, H, W) float32, scaled: what the model would get.
    generator
        The only source of chance: then the same seed gives the same run.
    distance
        In pixels, at most. A parameter with a default is an option that a suite can set.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    down, right = torch.randint(-distance, distance + 1, (2,), generator=generator).tolist()
    return inputs.roll((down, right), dims=(2, 3))
