"""HAM10000 on disk: the folder, the table of lesions, the images, and whether they belong together."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedbench.datasets import dataset_info
from fedbench.util.errors import DataError
from fedbench.util.files import plain_errors

NAME = "ham10000"
TABLE = "HAM10000_metadata.csv"
IMAGE_FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
LAST_IN_FIRST_FOLDER = "ISIC_0029305"
CLASSES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")  # in the order of the labels 0 to 6
COLUMNS = ("lesion_id", "image_id", "dx")
IMAGE_ID = re.compile(r"ISIC_[0-9]{7}")
FETCH = f"run: fedbench data fetch {NAME}"


@dataclass(frozen=True)
class Row:
    """One image of the table: its name without ``.jpg``, the lesion it shows, its class (0 to 6), the whole line."""

    image_id: str
    lesion_id: str
    label: int
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)


def skin_folder(data_dir: Path) -> Path:
    """The folder of HAM10000's files."""
    return data_dir / "skin"


def image_path(skin: Path, image_id: str) -> Path:
    """Where the image belongs: the first 5,000 in part 1, the others in part 2."""
    return skin / IMAGE_FOLDERS[image_id > LAST_IN_FIRST_FOLDER] / f"{image_id}.jpg"


def expected_images() -> int:
    """How many images the complete set has."""
    return sum(dataset_info(NAME).sizes["image"])


def read_copy(data_dir: Path) -> tuple[list[Row], dict[str, Path]]:
    """Read the table, in the order of the image ids, and find each row's image.

    Raises
    ------
    DataError
        If the set is not there or not complete, a row is wrong, a row has no image, or an image has no row.
    """
    skin = skin_folder(data_dir)
    with plain_errors(f"cannot read dataset {NAME}"):
        if not (skin / TABLE).exists() and not find_images(skin):
            raise DataError(f"dataset {NAME} is not in {data_dir}: {FETCH}")
        if not (skin / TABLE).is_file():
            raise DataError(f"{skin / TABLE} is missing: {FETCH}")
        rows = parse_table((skin / TABLE).read_bytes(), str(skin / TABLE))
        images = find_images(skin)
    ids = {row.image_id for row in rows}
    missing = sorted(ids - images.keys())
    if missing:
        raise DataError(f"{skin} lacks {len(missing)} of {len(rows)} images (first: {missing[0]}.jpg): {FETCH}")
    unknown = sorted(images.keys() - ids)
    if unknown:
        raise DataError(f"{images[unknown[0]]} has no row in {TABLE}: delete it, or {FETCH}")
    return rows, images


def find_images(skin: Path) -> dict[str, Path]:
    """The paths of all ``.jpg`` files in the image folders, by name without ``.jpg``, sorted.

    Some copies name the folders in lower case; where an image is there twice, the first is taken.
    """
    wanted = {folder.lower() for folder in IMAGE_FOLDERS}
    folders = sorted(path for path in skin.iterdir() if path.name.lower() in wanted) if skin.is_dir() else []
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.iterdir():
            if path.suffix.lower() == ".jpg" and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def parse_table(content: bytes, origin: str) -> list[Row]:
    """Read the table in `content` (`origin` names it in errors) and check it; the rows are in order of image ids."""
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, index_col=False)
    except ValueError as error:  # pandas' own errors, and text that is not UTF-8
        raise DataError(f"{origin} is not a CSV table ({str(error).splitlines()[0]}): {FETCH}") from error
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise DataError(f"{origin} has no column {', '.join(lacking)}: it has {', '.join(map(str, table.columns))}")
    numbered = enumerate(table.to_dict("records"), start=2)  # line 1 is the header
    rows = [_row(f"{origin}, line {line}", {str(key): value for key, value in each.items()}) for line, each in numbered]
    twice = [image_id for image_id, count in Counter(row.image_id for row in rows).items() if count > 1]
    if twice:
        raise DataError(f"{origin} has more than one row for image_id {twice[0]}")
    if len(rows) != expected_images():
        difference = expected_images() - len(rows)
        which = f"{difference} are missing" if difference > 0 else f"{-difference} too many"
        raise DataError(f"{origin} has {len(rows)} rows instead of {expected_images()} ({which}): {FETCH}")
    return sorted(rows, key=lambda row: row.image_id)


def _row(where: str, columns: Mapping[str, str]) -> Row:
    lesion_id, image_id, diagnosis = (columns[column] for column in COLUMNS)
    if not IMAGE_ID.fullmatch(image_id):
        raise DataError(f"{where}: image_id is {image_id!r}, which is not of the form ISIC_0024306")
    if not lesion_id:
        raise DataError(f"{where}: lesion_id is empty (image {image_id})")
    if diagnosis not in CLASSES:
        raise DataError(f"{where}: unknown dx {diagnosis!r} (image {image_id}): known are {', '.join(CLASSES)}")
    return Row(image_id, lesion_id, CLASSES.index(diagnosis), columns)
