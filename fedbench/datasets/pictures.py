"""A dataset of pictures in folders, ``train/CLASS/*`` and ``test/CLASS/*``: JPEG, PNG and what else Pillow reads.

The labels follow the alphabetical order of the classes. The pictures of either half are in a random order that depends
on their names alone, so that clients which take consecutive examples have all classes. What is known without decoding
them comes from the names of all files and the first picture of the first class.
"""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.arrays import Header, dataset_of, info_of, require_memory, training_of
from fedbench.datasets.decoded import kept
from fedbench.datasets.npz import OF_TRAINING
from fedbench.util.errors import DataError
from fedbench.util.files import plain_errors, regular, shown
from fedbench.util.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
IGNORED = ("Thumbs.db", "desktop.ini")  # besides hidden files
GREY = ("1", "L", "LA")  # Pillow's modes
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # more than 8 bits, which would be cut
HALVES = ("train", "test")
LEAST = 5  # pixels: an axis of fewer entries has the channels


@dataclass(frozen=True)
class PictureDataset:
    """Pictures in folders, train/CLASS and test/CLASS; see `fedbench.datasets` for its methods.

    Attributes
    ----------
    picture_size
        Width and height that pictures are resized to, bilinearly; None: they must have one size.
    picture_channels
        1 makes them grey, 3 colours; None: they must all be grey or all colours.
    """

    path: str
    picture_size: Annotated[int, Field(ge=LEAST, le=4096)] | None = None
    picture_channels: Literal[1, 3] | None = None

    @cached_property
    def INFO(self) -> DatasetInfo:  # noqa: N802 - as every dataset has it
        """From the files' names and the first picture."""
        import numpy as np

        labels = {f"y_{half}": np.array(self._labels(half)) for half in HALVES}
        labels["names"] = np.array(self._classes)
        return info_of(self.where, self._headers, labels, Path(self.path).as_uri())

    @property
    def where(self) -> str:
        """The folder, as messages name it."""
        return shown(Path(self.path))

    def load(self, data_dir: Path, split: str) -> Dataset:  # noqa: ARG002 - there is one split
        """Decode the pictures, or take them as they were decoded before."""
        dataset, _ = dataset_of(self.where, kept(self._cache(data_dir), self._decoded), Path(self.path).as_uri())
        return dataset

    def load_training(self, data_dir: Path, split: str) -> TrainingData:  # noqa: ARG002 - as for load
        """The training pictures alone."""
        return training_of(self.where, kept(self._cache(data_dir), self._decoded, OF_TRAINING))

    def verify(self, data_dir: Path) -> None:  # noqa: ARG002 - the pictures are where they are
        """Decode every picture; raises `DataError` for the first that cannot be."""
        dataset_of(self.where, self._decoded())

    @cached_property
    def _classes(self) -> list[str]:
        train, test = ([each.name for each in _entries(Path(self.path) / half)] for half in HALVES)
        for name in sorted({*train} ^ {*test}):
            there, lacking = HALVES if name in train else HALVES[::-1]
            raise DataError(
                f"{self.where}: the class {name} has a folder in {there} and none in {lacking}; both have the same "
                "classes: add the folder, empty if it must be, or move the other away"
            )
        if not train:
            raise DataError(f"{self.where}: train has no folders; there must be one for each class, with its pictures")
        return train

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """The pictures of either half, in their order."""
        classes = self._classes
        found = {half: [path for name in classes for path in self._of_class(half, name)] for half in HALVES}
        for half, files in found.items():
            if not files:
                raise DataError(f"{self.where}: {half} has no pictures")
            files.sort(key=lambda path: hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest())
        return found

    def _of_class(self, half: str, name: str) -> Iterator[Path]:
        for path in _entries(Path(self.path) / half / name):
            if path.suffix.lower() not in SUFFIXES:
                raise DataError(f"{shown(path)} is no picture ({', '.join(SUFFIXES)}); move it away")
            yield path

    def _labels(self, half: str) -> list[int]:
        label_of = {name: label for label, name in enumerate(self._classes)}
        return [label_of[path.parent.name] for path in self._files[half]]

    @cached_property
    def _headers(self) -> dict[str, Header]:
        """Of the arrays that the pictures become."""
        import numpy as np

        first = min(self._files["train"])
        with _opened(first) as picture:
            shape = (self.picture_channels or channels_of(picture), picture.height, picture.width)
        if self.picture_size:
            shape = (shape[0], self.picture_size, self.picture_size)
        headers = {f"x_{half}": Header(np.dtype("uint8"), (len(files), *shape)) for half, files in self._files.items()}
        return headers | {f"y_{half}": Header(np.dtype("int64"), (len(files),)) for half, files in self._files.items()}

    def _cache(self, data_dir: Path) -> Path:
        """Where the decoded pictures are kept: another place if a picture or an option changes."""
        with plain_errors(f"{self.where} cannot be read"):
            stats = [(path.relative_to(self.path), path.stat()) for files in self._files.values() for path in files]
        lines = [f"{self.picture_size} {self.picture_channels}"]
        lines += [f"{path.as_posix()} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
        key = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return data_dir / "decoded" / f"{Path(self.path).name}-{key[:16]}.npz"

    def _decoded(self) -> dict[str, NDArray[Any]]:
        import numpy as np

        require_memory(self.where, self._headers)
        arrays: dict[str, NDArray[Any]] = {"names": np.array(self._classes)}
        number = sum(map(len, self._files.values()))
        # Threads, not processes: Pillow decodes outside the interpreter's lock, and a run's worker may not fork.
        with (
            warnings.catch_warnings(),
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress(f"decoding {self.where}", number, "pictures") as advance,
        ):
            warnings.simplefilter("ignore")  # of Pillow; what cannot be decoded raises
            for half, files in self._files.items():
                pixels = arrays[f"x_{half}"] = np.empty(self._headers[f"x_{half}"].shape, dtype=np.uint8)
                for position, picture in enumerate(pool.map(self._decode, files)):
                    pixels[position] = picture
                    advance()
                arrays[f"y_{half}"] = np.array(self._labels(half))
        return arrays

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        is_free = (self.picture_size is not None, self.picture_channels is not None)
        with _opened(path) as picture:
            return pixels_of(picture, self._headers["x_train"].shape[1:], is_free, shown(path))


def pixels_of(
    picture: Image.Image, shape: tuple[int, ...], is_free: tuple[bool, bool], where: str
) -> NDArray[np.uint8]:
    """A picture as (C, H, W), converted to this shape if its size, and its channels, are free to be others."""
    import numpy as np
    from PIL import Image

    channels, height, width = shape
    if not is_free[1] and channels_of(picture) != channels:
        is_, others = ("grey", "in colour") if channels == 3 else ("in colour", "grey")
        raise DataError(f"{where} is {is_}, and others are {others}; set picture_channels to 1 or 3")
    if not is_free[0] and picture.size != (width, height):
        raise DataError(
            f"{where} is {picture.width}x{picture.height} pixels, and others are {width}x{height}; "
            "set picture_size to what all are resized to"
        )
    decoded = picture.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(decoded.resize((width, height), Image.Resampling.BILINEAR))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def channels_of(picture: Image.Image) -> int:
    """1 if a picture is grey, else 3."""
    return 1 if picture.mode in GREY else 3


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture; whatever is wrong with the file is a `DataError`."""
    from PIL import Image

    try:
        with Image.open(regular(path)) as picture:
            if picture.mode in DEEP:
                raise DataError(
                    f"{shown(path)} has more than 8 bits a pixel; convert it, or give floats in a .npz file"
                )
            yield picture
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{shown(path)} cannot be read as a picture ({reason}); replace or remove it") from error


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files and those that systems leave; by name."""
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        raise DataError(f"there is no folder {folder}; pictures are in train/CLASS and test/CLASS") from None
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be read: {error.strerror}") from error
    return [path for path in found if not path.name.startswith(".") and path.name not in IGNORED]
