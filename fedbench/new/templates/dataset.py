"""A dataset of your own: a function that returns arrays."""

import numpy as np
from numpy.typing import NDArray

from fedbench.datasets import load_dataset


def my_dataset(noise: float = 0.2) -> dict[str, NDArray[np.generic]]:
    """Digits with noise.

    Parameters
    ----------
    noise
        The largest change of a pixel, as a fraction of white. A parameter with a default is an option of a suite.

    Returns
    -------
    dict
        ``x_train`` and ``x_test``, (N, ...): images as uint8, (N, channels, height, width), are scaled and normalised;
        floating-point arrays of any shape are given to the model as they are. ``y_train`` and ``y_test``, (N,): the
        numbers of the classes, from 0.
    """
    digits = load_dataset("mnist-5k")  # read your own here, such as np.load("scans.npy")
    chance = np.random.default_rng(0)  # the data is the same for all runs: seeds of runs do not come here

    def noisy(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        changed = images + 255 * noise * chance.uniform(-1, 1, images.shape)
        return changed.clip(0, 255).astype(np.uint8)

    return {
        "x_train": noisy(digits.train_images.numpy()),
        "y_train": digits.train_labels.numpy(),
        "x_test": noisy(digits.test_images.numpy()),
        "y_test": digits.test_labels.numpy(),
    }
