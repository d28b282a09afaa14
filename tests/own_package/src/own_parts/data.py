"""Pictures of a square in one of two corners, with noise."""

import numpy as np

from fedbench.datasets import DatasetInfo
from fedbench.datasets.content import make_dataset

INFO = DatasetInfo((1, 8, 8), 2, {"all": (200, 100)}, "CC0-1.0", "nobody", "https://example.org")


def load(data_dir, split):
    del data_dir
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    images = rng.integers(0, 100, (300, 1, 8, 8), dtype=np.uint8)
    images[labels == 0, :, :4, :4] += 100
    images[labels == 1, :, 4:, 4:] += 100
    train, test = (images[:200], labels[:200]), (images[200:], labels[200:])
    return make_dataset("two-squares", split, train, test, (0.3,), (0.3,), ("first", "last"), info=INFO)
