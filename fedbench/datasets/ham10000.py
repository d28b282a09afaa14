"""HAM10000: 10,015 colour pictures of skin lesions in seven classes, at 32x32. For non-commercial use.

The files are in ``skin/`` of the data folder as in the Kaggle copy: `HAM10000_metadata.csv`,
``HAM10000_images_part_1/`` and ``HAM10000_images_part_2/``.

There are two fixed splits into training and test images. Chance comes from SHA-256 of the ids, so they depend on no
seed, no library's generator and no order of rows. The table is grouped by class and clients take consecutive blocks, so
both parts are in a shuffled order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.util.errors import DataError
from fedbench.util.files import plain_errors

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

NAME = "ham10000"
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
CLASSES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")  # in the order of the labels 0 to 6
MEAN, STD = (0.763, 0.546, 0.570), (0.141, 0.153, 0.170)  # as published for the set
TEST_SHARE = 0.2


def load(data_dir: Path, split: str) -> Dataset:
    """Load HAM10000 at 32x32 pixels, decoded once.

    In the split ``lesion`` no lesion is on both sides; ``image`` is that of the study that this project grew from.
    """
    from fedbench.datasets.content import make_dataset

    table, pixels = _read(data_dir)
    train, test = SPLITS[split](table)
    labels = _labels(table)
    parts = [(pixels[positions], labels[positions]) for positions in (train, test)]
    return make_dataset(NAME, split, parts[0], parts[1], MEAN, STD, CLASSES, _columns(table, train))


def load_training(data_dir: Path, split: str) -> TrainingData:
    """Load the training images only, grouped by lesion in both splits; the cache holds the test images as well."""
    table, pixels = _read(data_dir)
    train, _ = SPLITS[split](table)
    lesions = table.lesion_id.iloc[train].tolist()
    return TrainingData(pixels[train], _labels(table)[train], MEAN, STD, CLASSES, lesions, _columns(table, train))


def fetch(data_dir: Path, source: Path | None = None) -> None:
    """Get HAM10000 into `data_dir`, decode it once and list its files (see the package's docstring)."""
    from fedbench.datasets import ham10000_fetch

    ham10000_fetch.fetch(data_dir, source)


def verify(data_dir: Path) -> None:
    """Check every file: against the list that a fetch left or, without one, by decoding every image."""
    from fedbench.datasets import ham10000_files as files

    skin = data_dir / files.SKIN
    _, images = files.read_copy(data_dir)
    with plain_errors(f"cannot read dataset {NAME}"):
        if not (skin / files.MANIFEST).exists():
            files.decode_images(images)
        elif damaged := files.damaged_files(skin):
            raise DataError(f"{damaged[0]} is missing or damaged, one of {len(damaged)}: {files.fetch()}")


def is_present(data_dir: Path) -> bool:
    """Whether the table and as many images as it should have exist."""
    from fedbench.datasets.ham10000_files import SKIN, TABLE, expected_images, find_images

    skin = data_dir / SKIN
    return (skin / TABLE).is_file() and len(find_images(skin)) >= expected_images()


def _read(data_dir: Path) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """The table and its images, (N, 3, 32, 32), both in the order of the image ids."""
    from fedbench.datasets.ham10000_files import SKIN, load_images, read_copy

    table, images = read_copy(data_dir)
    with plain_errors(f"cannot read dataset {NAME}"):
        return table, load_images(data_dir / SKIN, images)


def _labels(table: pd.DataFrame) -> NDArray[np.int64]:
    return table.dx.map(CLASSES.index).to_numpy("int64")


def _columns(table: pd.DataFrame, positions: Sequence[int]) -> dict[str, NDArray[np.str_]]:
    """The table's columns at `positions`, without the images' names."""
    chosen = table.drop(columns="image_id").iloc[list(positions)]
    return {str(name): values.to_numpy(str) for name, values in chosen.items()}


def split_by_lesion(table: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Positions in `table` of the training and the test images; no lesion is on both sides.

    Of each class, whole lesions are taken for testing, in random order, as long as they fit into a fifth of the
    class's images.
    """
    lesions = table.groupby("lesion_id").agg(dx=("dx", "first"), images=("dx", "size"))
    test: set[str] = set()
    for diagnosis in CLASSES:
        images = {str(lesion): int(count) for lesion, count in lesions.images[lesions.dx == diagnosis].items()}
        room = round(TEST_SHARE * sum(images.values()))
        for lesion in sorted(images, key=lambda lesion: _chance("lesion", lesion)):
            if images[lesion] <= room:
                test.add(lesion)
                room -= images[lesion]
    in_test = table.lesion_id.isin(test).tolist()
    order = _shuffled(table)
    return [position for position in order if not in_test[position]], [p for p in order if in_test[p]]


def split_by_image(table: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Positions in `table` of the training and the test images: a random fifth of all images is for testing.

    The split of the study that this project grew from: pictures of one lesion are on both sides, which inflates the
    test accuracy.
    """
    order = _shuffled(table)
    test_size = round(TEST_SHARE * len(table))
    return order[test_size:], order[:test_size]


def _shuffled(table: pd.DataFrame) -> list[int]:
    ids = table.image_id.tolist()
    return sorted(range(len(ids)), key=lambda position: _chance("image", ids[position]))


def _chance(purpose: str, identifier: str) -> bytes:
    return hashlib.sha256(f"fedbench ham10000 {purpose} {identifier}".encode()).digest()


SPLITS = {"lesion": split_by_lesion, "image": split_by_image}
