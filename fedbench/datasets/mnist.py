"""MNIST: 70,000 grey images of handwritten digits of 28x28."""

from __future__ import annotations

from pathlib import Path

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.idx import IdxDataset

INFO = DatasetInfo(
    image_shape=(1, 28, 28),
    num_classes=10,
    sizes={"standard": (60_000, 10_000)},
    licence="CC BY-SA 3.0",
    citation="Yann LeCun, Corinna Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits",
    url="http://yann.lecun.com/exdb/mnist/",
    digests={"standard": "57dba8bb90156b10d9ee0d89a926e88cf9797b69ae33a024b065e1ada5dfc408"},
)

FILES = IdxDataset(
    name="mnist",
    folder="MNIST",
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    mean=(0.1307,),
    std=(0.3081,),
    class_names=tuple(str(digit) for digit in range(10)),
)


def load(data_dir: Path, split: str) -> Dataset:
    """Load MNIST: 60,000 training and 10,000 test images, in the published order."""
    return FILES.load(data_dir, split)


def load_training(data_dir: Path, split: str) -> TrainingData:  # noqa: ARG001 - there is one split
    """Load the 60,000 training images; the files of the test images are not opened."""
    return FILES.load_training(data_dir)


def fetch(data_dir: Path, source: Path | None = None) -> None:
    """Get MNIST into `data_dir` (see the package's docstring)."""
    FILES.fetch(data_dir, source)


def verify(data_dir: Path) -> None:
    """Check the four files; raises `DataError` naming the first that is missing or damaged."""
    FILES.verify(data_dir)


def is_present(data_dir: Path) -> bool:
    """Whether the four files exist."""
    return FILES.is_present(data_dir)
