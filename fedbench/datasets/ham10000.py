"""HAM10000: 10,015 colour pictures of skin lesions in seven classes, at 32x32. For non-commercial use.

The files stand in ``skin/`` of the data folder as in the Kaggle copy: `HAM10000_metadata.csv`,
``HAM10000_images_part_1/`` and ``HAM10000_images_part_2/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.content import make_dataset
from fedbench.datasets.ham10000_files import (
    CLASSES,
    FETCH,
    NAME,
    TABLE,
    Row,
    expected_images,
    find_images,
    read_copy,
    skin_folder,
)
from fedbench.datasets.ham10000_splits import split_by_image, split_by_lesion
from fedbench.util.errors import DataError
from fedbench.util.files import plain_errors

INFO = DatasetInfo(
    image_shape=(3, 32, 32),
    num_classes=7,
    sizes={"lesion": (8_012, 2_003), "image": (8_012, 2_003)},
    licence="CC BY-NC-SA 4.0",
    citation="Philipp Tschandl, Cliff Rosendahl, Harald Kittler: The HAM10000 dataset, a large collection of "
    "multi-source dermatoscopic images of common pigmented skin lesions, Scientific Data 5, 180161 (2018), "
    "doi:10.1038/sdata.2018.161; (c) ViDIR Group, Department of Dermatology, Medical University of Vienna",
    url="https://doi.org/10.7910/DVN/DBW86T",
)

MEAN, STD = (0.763, 0.546, 0.570), (0.141, 0.153, 0.170)  # as published for the set
SPLITS = {"lesion": split_by_lesion, "image": split_by_image}


def load(data_dir: Path, split: str) -> Dataset:
    """Load HAM10000 at 32x32 pixels.

    The first time, all images are decoded; later they come from a checked cache file in the data folder.

    Parameters
    ----------
    data_dir
        The data folder.
    split
        ``lesion``: no lesion is on both sides. ``image``: as in the study that this project grew from.
    """
    rows, pixels = _read(data_dir)
    sides = SPLITS[split](rows)
    train, test = (_images_and_labels(rows, pixels, positions) for positions in sides)
    return make_dataset(NAME, split, train, test, MEAN, STD, CLASSES, _columns(rows, sides[0]))


def load_training(data_dir: Path, split: str) -> TrainingData:
    """Load the training images alone, grouped by lesion in both splits; the cache holds the test images as well."""
    rows, pixels = _read(data_dir)
    train, _ = SPLITS[split](rows)
    images, labels = _images_and_labels(rows, pixels, train)
    lesions = [rows[position].lesion_id for position in train]
    return TrainingData(images, labels, MEAN, STD, CLASSES, lesions, _columns(rows, train))


def fetch(data_dir: Path, source: Path | None = None) -> None:
    """Bring HAM10000 into `data_dir`, decode it once and list it (see the package's docstring)."""
    from fedbench.datasets import ham10000_fetch

    ham10000_fetch.fetch(data_dir, source)


def verify(data_dir: Path) -> None:
    """Check every file: against the list that a fetch left or, without one, by decoding every image."""
    from fedbench.datasets.ham10000_images import decode_all
    from fedbench.datasets.ham10000_manifest import damaged_files, has_manifest, is_reduced_copy

    skin = skin_folder(data_dir)
    _, images = read_copy(data_dir)
    with plain_errors(f"cannot read dataset {NAME}"):
        if has_manifest(skin):
            damaged = damaged_files(skin)
            if damaged:
                raise DataError(f"{damaged[0]} is missing or damaged, one of {len(damaged)}: {FETCH}")
        elif not is_reduced_copy(skin, images):
            decode_all(images)


def is_present(data_dir: Path) -> bool:
    """Whether the table and as many images as it should have are there."""
    skin = skin_folder(data_dir)
    return (skin / TABLE).is_file() and len(find_images(skin)) >= expected_images()


def _read(data_dir: Path) -> tuple[list[Row], NDArray[np.uint8]]:
    """The table's rows and their images (N, 3, 32, 32), both in the order of the image ids."""
    from fedbench.datasets.ham10000_images import load_images

    rows, images = read_copy(data_dir)
    with plain_errors(f"cannot read dataset {NAME}"):
        return rows, load_images(skin_folder(data_dir), images)


def _images_and_labels(
    rows: Sequence[Row], pixels: NDArray[np.uint8], positions: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return pixels[positions], np.array([rows[position].label for position in positions], dtype=np.int64)


def _columns(rows: Sequence[Row], positions: Sequence[int]) -> dict[str, NDArray[np.str_]]:
    """The table's columns at `positions`, but for the images' names."""
    names = [name for name in rows[0].columns if name != "image_id"]
    return {name: np.array([rows[position].columns[name] for position in positions]) for name in names}
