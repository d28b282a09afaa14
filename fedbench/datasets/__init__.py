"""The datasets: one file each, and one line each in `DATASETS`.

Listing the table imports neither torch nor the dataset's own module. A dataset's module has four functions:

``load(data_dir, split)``
    The `Dataset`, in memory. Raises `DataError` naming the command that brings the data, or the damaged file.
``fetch(data_dir, source)``
    Bring the data into `data_dir`: from `source` (a folder or an archive) if given, else from ``FEDBENCH_MIRROR``,
    else from the public source. Resumable, checksummed, atomic.
``verify(data_dir)``
    Check every file; raises `DataError` naming the first that is missing or damaged.
``is_present(data_dir)``
    Whether the files are there (a quick look, not a check).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fedbench.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset without loading it.

    Attributes
    ----------
    module
        Where its functions are.
    image_shape
        Channels, height, width.
    num_classes
        How many classes there are.
    sizes
        For each split, the numbers of training and test examples. The first split is the default.
    licence
        The licence of the data.
    """

    module: str
    image_shape: tuple[int, int, int]
    num_classes: int
    sizes: Mapping[str, tuple[int, int]]
    licence: str

    @property
    def default_split(self) -> str:
        return next(iter(self.sizes))


DATASETS: dict[str, DatasetInfo] = {
    "mnist-5k": DatasetInfo("mnist_5k", (1, 28, 28), 10, {"stratified": (4_000, 1_000)}, "CC BY-SA 3.0"),
    "mnist": DatasetInfo("mnist", (1, 28, 28), 10, {"standard": (60_000, 10_000)}, "CC BY-SA 3.0"),
    "fashion-mnist": DatasetInfo("fashion_mnist", (1, 28, 28), 10, {"standard": (60_000, 10_000)}, "MIT"),
    "ham10000": DatasetInfo("ham10000", (3, 32, 32), 7, {"lesion": (8_012, 2_003), "image": (8_012, 2_003)}, "CC BY-NC-SA 4.0"),
}


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory. Images stay bytes; `normalise` makes the floats a model is given.

    Attributes
    ----------
    train_images, test_images
        uint8, (N, C, H, W).
    train_labels, test_labels
        int64, (N,).
    mean, std
        Per channel, of pixels scaled to [0, 1].
    class_names
        In the order of the labels.
    digest
        SHA-256 (hexadecimal) over everything above: equal digest, equal data.
    source
        Where it came from, as a URL or a citation, for the tracking store.
    """

    name: str
    split: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    digest: str
    source: str

    def normalise(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> float32, as torchvision's ``ToTensor`` and ``Normalize`` do."""
        import torch

        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def data_dir(chosen: Path | None = None) -> Path:
    """The data folder: `chosen`, else ``FEDBENCH_DATA_DIR``, else ``data`` in the working directory."""
    return chosen or Path(os.environ.get("FEDBENCH_DATA_DIR") or "data")


def dataset_module(name: str) -> ModuleType:
    """The module of the dataset `name` (see this package's docstring for its functions)."""
    if name not in DATASETS:
        raise DataError(f"unknown dataset {name!r}: choose from {', '.join(DATASETS)}")
    return import_module(f"fedbench.datasets.{DATASETS[name].module}")


def load_dataset(name: str, split: str | None = None, folder: Path | None = None) -> Dataset:
    """Load a dataset into memory.

    Parameters
    ----------
    name
        A key of `DATASETS`.
    split
        One of its splits; its default if None.
    folder
        The data folder (see `data_dir`).
    """
    module = dataset_module(name)
    chosen = split or DATASETS[name].default_split
    if chosen not in DATASETS[name].sizes:
        raise DataError(f"dataset {name} has no split {chosen!r}: choose from {', '.join(DATASETS[name].sizes)}")
    dataset: Dataset = module.load(data_dir(folder), chosen)
    return dataset
