"""The datasets: one file each, and one line each in `DATASETS`.

A dataset is a module, or an object in one, that imports torch in its functions only: listing datasets is quick. It has:

``INFO``
    Its `DatasetInfo`.
``load(data_dir, split)``
    The `Dataset`, in memory. Raises `DataError` naming the command that downloads the data, or the damaged file.
``fetch(data_dir, source)``
    Download the data into `data_dir`: from `source` (a folder or an archive) if given, else from ``FEDBENCH_MIRROR``,
    else from the public source. Resumable, checksummed, atomic.
``verify(data_dir)``
    Check every file; raises `DataError` naming the first that is missing or damaged.
``is_present(data_dir)``
    Whether the files are there (a quick look, not a check).
``load_training(data_dir, split)``
    Optional: the split's `TrainingData`, which is what `load` gives for training, checked as there. It does not open
    files that hold the test set alone. Without it, the validation split (see `fedbench.datasets.validation`) is made of
    what `load` returns.
``SPLIT_NAMES``
    Optional: the names of the splits, for a dataset whose ``INFO`` is found by loading it. Its ``INFO`` is then asked
    for only when it is needed.

A user's data comes by other ways in: see `fedbench.datasets.arrays` for arrays, `npz` for a file of them, `function`
for a function that returns them, `pictures` for folders of pictures, and `torchvision_sets`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from fedbench.util.advice import data_command
from fedbench.util.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset without loading it.

    Attributes
    ----------
    image_shape
        Of an example as a model is given it: channels, height and width of images.
    sizes
        For each split, the numbers of training and test examples. The first split is the default.
    citation
        Whom to name when the data, or results on it, are shown.
    url
        Where the data is published.
    digests
        For splits whose bytes are the same wherever they come from: the `Dataset.digest`, so that finished runs are
        recognised without loading the data.
    dtype
        Of an example as a model is given it: ``float32``, or ``int64`` for whole numbers such as tokens.
    """

    image_shape: tuple[int, ...]
    num_classes: int
    sizes: Mapping[str, tuple[int, int]]
    licence: str = ""
    citation: str = ""
    url: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def default_split(self) -> str:
        """The split that is taken where none is named."""
        return next(iter(self.sizes))


DATASETS: dict[str, str] = {
    "mnist-5k": "fedbench.datasets.mnist_5k",
    "mnist": "fedbench.datasets.mnist:MNIST",
    "fashion-mnist": "fedbench.datasets.fashion_mnist:FASHION_MNIST",
    "ham10000": "fedbench.datasets.ham10000",
}


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory. Images stay bytes; `normalise` makes the floats a model is given, `scaled` chooses how.

    Attributes
    ----------
    train_images, test_images
        uint8, (N, C, H, W); or inputs that are given to a model as they are, float32 or int64, (N, ...).
    train_labels, test_labels
        int64, (N,).
    mean, std
        Per channel, of pixels scaled to [0, 1]; empty for inputs that are given as they are.
    class_names
        In the order of the labels.
    digest
        SHA-256 (hexadecimal) over everything above: equal digest, equal data.
    source
        Where it came from, as a URL or a citation, for the tracking store.
    train_columns
        Metadata of the training examples by the column's name, each (N,) text, empty where a value is missing. The
        digest does not cover them.
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
    train_columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def normalise(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> float32, as torchvision's ``ToTensor`` and ``Normalize`` do; other inputs copied."""
        import torch

        if not self.mean:
            return images.clone()  # a model may work in place
        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)

    def scaled(self, pixels: str) -> Dataset:
        """The same data, which `normalise` scales as the scenario field ``pixels`` says; raises `DataError`."""
        if pixels == "standardised":
            return self
        if not self.mean:
            raise DataError(
                f"dataset {self.name}: pixels is {pixels}, but a model is given these inputs as they are, since they "
                "are no 8-bit images; leave pixels out"
            )
        return replace(self, mean=(0.0,) * len(self.mean), std=(1.0,) * len(self.std))


@dataclass(frozen=True)
class TrainingData:
    """The training part of a `Dataset`, read without its test set; `images`, `labels` and `columns` are as there.

    Attributes
    ----------
    groups
        For each example the name of its group, where examples must stay together when the data is divided, such as the
        pictures of one lesion; None where each stands alone.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    groups: Sequence[str] | None = None
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)


def data_dir(chosen: Path | None = None) -> Path:
    """The data folder: `chosen`, else ``FEDBENCH_DATA_DIR``, else ``data`` in the working directory."""
    return chosen or Path(os.environ.get("FEDBENCH_DATA_DIR") or "data")


def dataset_module(dataset: str | object) -> Any:
    """What loads a built-in dataset, by its name; another object as it is."""
    if not isinstance(dataset, str):
        return dataset
    if dataset not in DATASETS:
        raise DataError(f"unknown dataset {dataset!r}: choose from {', '.join(DATASETS)}")
    return resolve_name(DATASETS[dataset])


def dataset_info(dataset: str | object) -> DatasetInfo:
    """What is known of a dataset without loading it."""
    info: DatasetInfo = dataset_module(dataset).INFO
    return info


def splits_of(dataset: str | object) -> tuple[str, ...]:
    """The names of a dataset's splits, its default first; the data is not loaded for them."""
    source = dataset_module(dataset)
    return tuple(source.SPLIT_NAMES if is_deferred(source) else source.INFO.sizes)


def is_deferred(dataset: str | object) -> bool:
    """Whether the ``INFO`` of a dataset is found by loading it."""
    return hasattr(dataset_module(dataset), "SPLIT_NAMES")


def checked_split(dataset: str | object, split: str | None = None) -> str:
    """A split of a dataset, its default if None; raises `DataError` if it has no such split."""
    splits = splits_of(dataset)
    chosen = split or splits[0]
    if chosen not in splits:
        raise DataError(f"dataset {dataset} has no split {chosen!r}: choose from {', '.join(splits)}")
    return chosen


def is_present(dataset: str | object, folder: Path | None = None) -> bool:
    """Whether a dataset's files are in the data folder (a quick look, not a check); one that does not say has them."""
    look = getattr(dataset_module(dataset), "is_present", None)
    return look is None or bool(look(data_dir(folder)))


def load_dataset(dataset: str | object, split: str | None = None, folder: Path | None = None) -> Dataset:
    """Load a dataset into memory.

    Parameters
    ----------
    dataset
        A key of `DATASETS`, or an object with ``INFO`` and ``load`` as in this package's docstring.
    split
        One of its splits; its default if None.
    folder
        The data folder (see `data_dir`).
    """
    loaded: Dataset = dataset_module(dataset).load(data_dir(folder), checked_split(dataset, split))
    return loaded


@dataclass(frozen=True)
class DatasetStatus:
    """One line of ``fedbench data list``: `present` is a quick look, `command` downloads the dataset."""

    name: str
    info: DatasetInfo
    present: bool
    command: str


def dataset_statuses(folder: Path | None = None) -> list[DatasetStatus]:
    """Say of every dataset whether it is in the data folder `folder` (see `data_dir`). Imports no torch."""
    from fedbench.util.files import plain_errors

    chosen = data_dir(folder)
    with plain_errors(f"cannot look into {chosen}"):
        return [
            DatasetStatus(
                name, dataset_info(name), dataset_module(name).is_present(chosen), data_command("fetch", name)
            )
            for name in DATASETS
        ]
