"""A dataset of pictures in folders, ``train/CLASS/*`` and ``test/CLASS/*``: JPEG, PNG and what else Pillow reads.

The labels follow the alphabetical order of the classes. The pictures of either half are in a random order that depends
on their names alone, so that clients which take consecutive examples have all classes. What is known without decoding
them comes from the names of all files and the first picture of the first class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.datasets import DatasetInfo
from fedbench.datasets.arrays import Header, dataset_of, info_of, require_memory
from fedbench.datasets.decoded import DecodedDataset, decode_all, opened
from fedbench.util.errors import DataError
from fedbench.util.files import plain_errors, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
IGNORED = ("Thumbs.db", "desktop.ini")  # besides hidden files
HALVES = ("train", "test")


@dataclass(frozen=True)
class PictureDataset(DecodedDataset):
    """Pictures in folders, train/CLASS and test/CLASS."""

    path: str

    @cached_property
    def INFO(self) -> DatasetInfo:  # noqa: N802 - as every dataset has it
        """From the files' names and the first picture."""
        import numpy as np

        labels = {f"y_{half}": np.array(self._labels(half)) for half in HALVES}
        labels["names"] = np.array(self._classes)
        return info_of(self.where, self._headers, labels, self.url)

    @property
    def where(self) -> str:
        """The folder, as messages name it."""
        return shown(Path(self.path))

    @property
    def url(self) -> str:
        """The folder."""
        return Path(self.path).as_uri()

    def verify(self, data_dir: Path) -> None:
        """Decode every picture; raises `DataError` for the first that cannot be."""
        dataset_of(self.where, self.decoded(data_dir))

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

        with opened(min(self._files["train"])) as picture:
            shape = self.shape_of(picture)
        headers = {f"x_{half}": Header(np.dtype("uint8"), (len(files), *shape)) for half, files in self._files.items()}
        return headers | {f"y_{half}": Header(np.dtype("int64"), (len(files),)) for half, files in self._files.items()}

    def cache(self, data_dir: Path) -> Path:
        """Named after the files' names, sizes and times, and the options."""
        with plain_errors(f"{self.where} cannot be read"):
            stats = [(path.relative_to(self.path), path.stat()) for files in self._files.values() for path in files]
        lines = [f"{self.picture_size} {self.picture_channels}"]
        lines += [f"{path.as_posix()} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
        key = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return data_dir / "decoded" / f"{Path(self.path).name}-{key[:16]}.npz"

    def decoded(self, data_dir: Path) -> dict[str, NDArray[Any]]:  # noqa: ARG002 - the pictures are where they are
        """See `DecodedDataset.decoded`."""
        import numpy as np

        require_memory(self.where, self._headers)
        files = [path for half in HALVES for path in self._files[half]]
        pixels = decode_all(self._decode, files, self._headers["x_train"].shape[1:], self.where)
        train, test = np.split(pixels, [len(self._files["train"])])
        labels = {f"y_{half}": np.array(self._labels(half)) for half in HALVES}
        return {"names": np.array(self._classes), "x_train": train, "x_test": test, **labels}

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        with opened(path) as picture:
            return self.pixels_of(picture, self._headers["x_train"].shape[1:], shown(path))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files and those that systems leave; by name."""
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        raise DataError(f"there is no folder {folder}; pictures are in train/CLASS and test/CLASS") from None
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be read: {error.strerror}") from error
    return [path for path in found if not path.name.startswith(".") and path.name not in IGNORED]
