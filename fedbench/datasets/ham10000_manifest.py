"""The list of HAM10000's files that a fetch leaves behind, by which damage is found later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from fedbench.datasets.ham10000_files import TABLE
from fedbench.util.errors import DataError
from fedbench.util.files import file_digest, replacing
from fedbench.util.progress import progress

MANIFEST = "manifest.json"

# A public copy at 200x150 pixels: of the table, and of all images one after the other in the order of their ids.
REDUCED_TABLE_MD5 = "70bb67f71bd23dde0bd2eda4bdcc98e5"
REDUCED_IMAGES_MD5 = "6004304ae829f07cae4ea675f34519e0"


def write_manifest(skin: Path, images: Mapping[str, Path]) -> None:
    """List the table and the images with size and SHA-256."""
    paths = sorted([skin / TABLE, *images.values()])
    listed = {
        path.relative_to(skin).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path, "sha256")}
        for path in paths
    }
    with replacing(skin / MANIFEST) as file:
        file.write(json.dumps(listed, indent=1, sort_keys=True).encode())


def has_manifest(skin: Path) -> bool:
    """Whether a fetch was finished here."""
    return (skin / MANIFEST).exists()


def damaged_files(skin: Path) -> list[Path]:
    """The listed files that are missing or differ from the list, in the order of the list."""
    try:
        listed = json.loads((skin / MANIFEST).read_bytes())
        expected = {skin / name: (int(entry["size"]), str(entry["sha256"])) for name, entry in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{skin / MANIFEST} is damaged: delete it and run: fedbench data verify ham10000") from error
    damaged = []
    with progress("checking HAM10000", len(expected), "files") as advance:
        for path, (size, sha256) in expected.items():
            if not path.is_file() or path.stat().st_size != size or file_digest(path, "sha256") != sha256:
                damaged.append(path)
            advance()
    return damaged


def is_reduced_copy(skin: Path, images: Mapping[str, Path]) -> bool:
    """Whether this is the known copy at 200x150 pixels, bit by bit. `images` is in the order of the ids."""
    if file_digest(skin / TABLE, "md5") != REDUCED_TABLE_MD5:
        return False
    digest = hashlib.md5(usedforsecurity=False)
    for path in images.values():
        digest.update(path.read_bytes())
    return digest.hexdigest() == REDUCED_IMAGES_MD5
