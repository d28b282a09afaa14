"""Makes a `Dataset` from arrays: checks the sizes and computes the digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedbench.datasets import Dataset, DatasetInfo, TrainingData, dataset_info
from fedbench.util.advice import data_command
from fedbench.util.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def content_digest(
    tensors: tuple[Tensor, ...], mean: tuple[float, ...], std: tuple[float, ...], class_names: tuple[str, ...]
) -> str:
    """SHA-256 (hexadecimal) over the types, shapes and bytes of `tensors`, and over the rest.

    The dataset's name is not part of it: equal digests mean equal data.
    """
    described = [[str(tensor.dtype), list(tensor.shape)] for tensor in tensors]
    digest = hashlib.sha256(json.dumps([described, mean, std, class_names]).encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def assemble(
    name: str, split: str, training: TrainingData, test: tuple[NDArray[Any], NDArray[np.int64]], source: str
) -> Dataset:
    """A dataset of its training part and its test images and labels; `source` is where it came from."""
    import torch

    train_images, train_labels = torch.from_numpy(training.images), torch.from_numpy(training.labels)
    tensors = (train_images, train_labels, torch.from_numpy(test[0]), torch.from_numpy(test[1]))
    rest = (training.mean, training.std, training.class_names)
    return Dataset(name, split, *tensors, *rest, content_digest(tensors, *rest), source, training.columns)


def make_dataset(
    name: str,
    split: str,
    train: tuple[NDArray[np.uint8], NDArray[np.int64]],
    test: tuple[NDArray[np.uint8], NDArray[np.int64]],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    class_names: tuple[str, ...],
    train_columns: Mapping[str, NDArray[np.str_]] | None = None,
    info: DatasetInfo | None = None,
) -> Dataset:
    """Make a `Dataset` of images, uint8 (N, C, H, W), and labels, int64 (N,). One that is not built in passes `info`.

    Raises
    ------
    DataError
        If there are more or fewer examples than `info` says; by default that of the built-in dataset.
    """
    sizes = (len(train[1]), len(test[1]))
    info = info or dataset_info(name)
    expected = info.sizes[split]
    if sizes != expected:
        raise DataError(
            f"dataset {name}, split {split}: {sizes[0]} training and {sizes[1]} test examples "
            f"instead of {expected[0]} and {expected[1]}: run: {data_command('verify', name)}"
        )
    training = TrainingData(*train, mean, std, class_names, columns=train_columns or {})
    return assemble(name, split, training, test, info.url)
