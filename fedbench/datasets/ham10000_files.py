"""HAM10000 on disk: the table, the images with their checked cache, and the manifest that a fetch leaves."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbench.datasets import dataset_info
from fedbench.datasets.decoded import decode_all, kept, opened
from fedbench.datasets.ham10000 import CLASSES, NAME
from fedbench.datasets.npz import read_arrays
from fedbench.util.advice import data_command
from fedbench.util.errors import DataError
from fedbench.util.files import file_digest, plain_errors, regular, replacing
from fedbench.util.progress import progress
from fedbench.util.text import show

if TYPE_CHECKING:
    import pandas as pd

SKIN = "skin"  # the folder of its files in the data folder
TABLE = "HAM10000_metadata.csv"
IMAGE_FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
LAST_IN_FIRST_FOLDER = "ISIC_0029305"
COLUMNS = ("lesion_id", "image_id", "dx")
IMAGE_ID = re.compile(r"ISIC_[0-9]{7}")
IMAGE_NAME = re.compile(r"ISIC[ _-]?([0-9]{7})\.jpe?g", re.IGNORECASE)
TABLE_NAME = re.compile(r"HAM10000[ _-]?metadata(\.(csv|tab|tsv|txt))?", re.IGNORECASE)  # Dataverse's ends in .tab
SIDE = 32
MANIFEST = "manifest.json"  # is there if a fetch finished
LARGEST_TABLE = 16_000_000  # bytes; the published one has 0.6 million
MOST_PIXELS = 50_000_000  # the originals have 270,000


def fetch() -> str:
    """What to do where something is missing."""
    return f"run: {data_command('fetch', NAME)}"


def image_path(skin: Path, image_id: str) -> Path:
    """Where the image belongs: the first 5,000 in part 1, the others in part 2."""
    return skin / IMAGE_FOLDERS[image_id > LAST_IN_FIRST_FOLDER] / f"{image_id}.jpg"


def expected_images() -> int:
    """The number of images of the complete set."""
    return sum(dataset_info(NAME).sizes["image"])


# The table and the names of the images


def key_of(name: str) -> str | None:
    """What a file is by its name, however that is written: `TABLE`, the id of an image, or None of the set."""
    if TABLE_NAME.fullmatch(name):
        return TABLE
    image = IMAGE_NAME.fullmatch(name)
    return f"ISIC_{image[1]}" if image else None


def walk(folder: Path) -> Iterator[Path]:
    """All files in a folder and below, those of a folder before those below it, by name; hidden ones are left out."""
    seen = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link leads back
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def read_copy(data_dir: Path) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Read the table, in the order of the image ids, and find each row's image; both must be complete."""
    skin = data_dir / SKIN
    with plain_errors(f"cannot read dataset {NAME}"):
        images = find_images(skin)
        if not (skin / TABLE).exists() and not images:
            raise DataError(f"dataset {NAME} is not in {data_dir}: {fetch()}")
        if not (skin / TABLE).is_file():
            raise DataError(f"{skin / TABLE} is missing: {fetch()}")
        table = parse_table(regular(skin / TABLE, LARGEST_TABLE).read_bytes(), str(skin / TABLE))
    ids = set(table.image_id)
    if missing := sorted(ids - images.keys()):
        raise DataError(f"{skin} lacks {len(missing)} of {len(table)} images (first: {missing[0]}.jpg): {fetch()}")
    for image_id in sorted(images.keys() - ids):  # elsewhere there may be others, such as the test set of the challenge
        if images[image_id].relative_to(skin).parts[0].lower() in map(str.lower, IMAGE_FOLDERS):
            raise DataError(f"{images[image_id]} has no row in {TABLE}: delete it, or {fetch()}")
    return table, {image_id: path for image_id, path in images.items() if image_id in ids}


def find_images(skin: Path) -> dict[str, Path]:
    """The paths of all images, in whatever folders they are, by id, sorted; of one that exists twice, the first."""
    found: dict[str, Path] = {}
    for path in walk(skin):
        if (key := key_of(path.name)) and key != TABLE:
            found.setdefault(key, path)
    return dict(sorted(found.items()))


def separator(content: bytes) -> bytes:
    """What separates the columns of a table: a comma or, as in Dataverse's and some spreadsheets', another."""
    return max(b",", b"\t", b";", key=content.partition(b"\n")[0].count)


def parse_table(content: bytes, origin: str) -> pd.DataFrame:
    """Read the table in `content` as text, check it, and sort it by image id; `origin` names it in errors."""
    import pandas as pd

    try:
        with warnings.catch_warnings():  # rows of some spreadsheets end with a comma
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.BytesIO(content), sep=separator(content).decode(), dtype=str, keep_default_na=False, index_col=False
            )
    except ValueError as error:  # pandas' own errors, and text that is not UTF-8
        raise DataError(f"{origin} is not a CSV table ({str(error).splitlines()[0]}): {fetch()}") from error
    if lacking := [column for column in COLUMNS if column not in table.columns]:
        raise DataError(f"{origin} has no column {', '.join(lacking)}: it has {', '.join(map(str, table.columns))}")
    for line, (lesion_id, image_id, diagnosis) in enumerate(table[list(COLUMNS)].itertuples(index=False), start=2):
        if problem := _problem(lesion_id, image_id, diagnosis):
            raise DataError(f"{origin}, line {line}: {problem}")
    if twice := table.image_id[table.image_id.duplicated()].tolist():
        raise DataError(f"{origin} has more than one row for image_id {twice[0]}")
    if difference := expected_images() - len(table):
        which = f"{difference} are missing" if difference > 0 else f"{-difference} too many"
        raise DataError(f"{origin} has {len(table)} rows instead of {expected_images()} ({which}): {fetch()}")
    return table.sort_values("image_id", ignore_index=True)


def _problem(lesion_id: str, image_id: str, diagnosis: str) -> str | None:
    if not IMAGE_ID.fullmatch(image_id):
        return f"image_id is {show(image_id)}, which is not of the form ISIC_0024306"
    if not lesion_id:
        return f"lesion_id is empty (image {image_id})"
    if diagnosis not in CLASSES:
        return f"unknown dx {show(diagnosis)} (image {image_id}): known are {', '.join(CLASSES)}"
    return None


# The images' pixels


def load_images(skin: Path, images: Mapping[str, Path]) -> NDArray[np.uint8]:
    """The images, (N, 3, 32, 32), in the order of `images`, decoded once until the table or an image's size changes."""
    lines = [file_digest(skin / TABLE, "sha256"), *(f"{name} {path.stat().st_size}" for name, path in images.items())]
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    path = skin.with_name("decoded") / f"{NAME}-{SIDE}-{key[:16]}.npz"
    found = kept(path, lambda: {"images": decode_images(images)}, partial(read_arrays, keys=["images"]))
    return found["images"]


def decode_images(images: Mapping[str, Path]) -> NDArray[np.uint8]:
    """Decode every image to (N, 3, 32, 32); raises `DataError` naming the first that cannot be decoded."""
    return decode_all(_decode, list(images.values()), (3, SIDE, SIDE), "HAM10000")


def _decode(path: Path) -> NDArray[np.uint8]:
    """(3, 32, 32), as torchvision's ``Resize((32, 32))`` makes it of a Pillow image."""
    with opened(path, f"delete it and {fetch()}", ("JPEG",)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise DataError(f"{path} has {image.width}x{image.height} pixels, too many for this set: delete it")
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


# The manifest


def write_manifest(skin: Path, images: Mapping[str, Path]) -> None:
    """List the table and the images with size and SHA-256."""
    listed = {
        path.relative_to(skin).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path, "sha256")}
        for path in sorted([skin / TABLE, *images.values()])
    }
    with replacing(skin / MANIFEST) as file:
        file.write(json.dumps(listed, indent=1, sort_keys=True).encode())


def damaged_files(skin: Path) -> list[Path]:
    """The listed files that are missing or differ from the list, in its order."""
    try:
        listed = json.loads(regular(skin / MANIFEST, LARGEST_TABLE).read_bytes())
        expected = {skin / name: (int(entry["size"]), str(entry["sha256"])) for name, entry in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{skin / MANIFEST} is damaged: delete it and run: {data_command('verify', NAME)}") from error
    damaged = []
    with progress("checking HAM10000", len(expected), "files") as advance:
        for path, (size, sha256) in expected.items():
            if not path.is_file() or path.stat().st_size != size or file_digest(path, "sha256") != sha256:
                damaged.append(path)
            advance()
    return damaged
