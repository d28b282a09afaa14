"""HAM10000's images as an array: decoded once, then read from a checked cache file."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbench.datasets.ham10000_files import FETCH, TABLE
from fedbench.util.errors import DataError
from fedbench.util.files import exclusive, file_digest, replacing
from fedbench.util.progress import progress

SIDE = 32
CACHE = f"images-{SIDE}x{SIDE}.cache"
MOST_PIXELS = 50_000_000  # the originals have 270,000


def load_images(skin: Path, images: Mapping[str, Path]) -> NDArray[np.uint8]:
    """The images (N, 3, 32, 32), in the order of `images`, from the cache or, if it does not fit, from the files."""
    key = _cache_key(skin, images)
    cached = _read_cache(skin / CACHE, key, len(images))
    if cached is not None:
        return cached
    with exclusive(skin):  # of several runs that start at once, one decodes and the others wait for its cache
        cached = _read_cache(skin / CACHE, key, len(images))
        return build_cache(skin, images) if cached is None else cached


def build_cache(skin: Path, images: Mapping[str, Path]) -> NDArray[np.uint8]:
    """Decode all images and write the cache. The caller holds the folder (see `exclusive`)."""
    pixels = decode_all(images)
    try:
        with replacing(skin / CACHE) as file:
            file.write(_header(_cache_key(skin, images), pixels.data))
            file.write(pixels.data)
    except OSError as error:  # a folder that is read-only, or full: the images are still good
        sys.stderr.write(f"{skin / CACHE} cannot be written ({error.strerror}): images are decoded each time\n")
    return pixels


def decode_all(images: Mapping[str, Path]) -> NDArray[np.uint8]:
    """Decode every image to (N, 3, 32, 32); raises `DataError` naming the first that cannot be."""
    pixels = np.empty((len(images), 3, SIDE, SIDE), dtype=np.uint8)
    # Threads, not processes: Pillow decodes outside the interpreter's lock, and a run's worker may not fork.
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress("decoding HAM10000", len(images), "images") as advance,
    ):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for position, image in enumerate(pool.map(_decode, images.values())):
            pixels[position] = image
            advance()
    return pixels


def _decode(path: Path) -> NDArray[np.uint8]:
    """(3, 32, 32), as torchvision's ``Resize((32, 32))`` makes it of a Pillow image."""
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(f"{path} has {image.width}x{image.height} pixels, too many for this set: delete it")
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    except (
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged ({reason}): delete it and {FETCH}") from error
    return np.asarray(small).transpose(2, 0, 1)


def _cache_key(skin: Path, images: Mapping[str, Path]) -> str:
    """Changes when the table changes, or the name or the size of an image."""
    lines = [file_digest(skin / TABLE, "sha256"), *(f"{name} {path.stat().st_size}" for name, path in images.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _header(key: str, pixels: memoryview) -> bytes:
    return f"fedbench ham10000 {SIDE} 1 {key} {hashlib.sha256(pixels).hexdigest()}\n".encode()


def _read_cache(path: Path, key: str, count: int) -> NDArray[np.uint8] | None:
    """The cache's images, None if there is no cache, it belongs to other files, or a bit of it is wrong."""
    size = count * 3 * SIDE * SIDE
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    header, pixels = content[: len(content) - size], content[-size:]
    if len(content) < size or bytes(header) != _header(key, pixels):
        return None
    return np.frombuffer(pixels, dtype=np.uint8).reshape(count, 3, SIDE, SIDE)
