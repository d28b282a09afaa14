"""A dataset in one ``.npz`` file: the arrays of `fedbench.datasets.arrays`. Pickled objects are never read.

What is known without loading it comes from the headers and labels of the file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.arrays import (
    OPTIONAL,
    REQUIRED,
    dataset_of,
    info_of,
    require_keys,
    require_memory,
    require_shapes,
    training_of,
)
from fedbench.util.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIX = ".npy"  # of an array in the archive


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NpzDataset:
    """The dataset of a file; see `fedbench.datasets` for its methods."""

    path: Path | str

    @cached_property
    def INFO(self) -> DatasetInfo:  # noqa: N802 - as every dataset has it
        """From the headers and the labels."""
        headers = self._headers()
        arrays = self._arrays(key for key in ("y_train", "y_test", "names") if key in headers)
        return info_of(self.where, headers, arrays["y_train"], arrays["y_test"], arrays.get("names"))

    @property
    def where(self) -> str:
        """The file, as messages name it."""
        path = Path(self.path)
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

    def load(self, data_dir: Path, split: str) -> Dataset:  # noqa: ARG002 - the file is where it is, and one split
        """Read the arrays and check every value."""
        dataset, _ = dataset_of(self.where, self._arrays(self._headers()), Path(self.path).as_uri())
        return dataset

    def load_training(self, data_dir: Path, split: str) -> TrainingData:  # noqa: ARG002 - as for load
        """Read the training arrays; those for testing stay closed."""
        keys = ("x_train", "y_train", *OPTIONAL)
        return training_of(self.where, self._arrays(key for key in keys if key in self._headers()))

    def verify(self, data_dir: Path) -> None:
        """Check every value; raises `DataError` for the first that is wrong."""
        self.load(data_dir, "")

    def _headers(self) -> dict[str, _Header]:
        with self._archive() as archive:
            members = {member.filename.removesuffix(SUFFIX): member for member in archive.infolist()}
            require_keys(self.where, list(members))
            headers = {key: self._header(archive, key, member) for key, member in members.items()}
        require_shapes(self.where, headers)
        return headers

    def _header(self, archive: zipfile.ZipFile, key: str, member: zipfile.ZipInfo) -> _Header:
        from numpy.lib import format as npy

        with archive.open(member) as file:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(file))
            if read is None:
                raise ValueError(f"{key} has a header of another version")
            shape, _, dtype = read(file)
            if dtype.hasobject:
                raise DataError(
                    f"{self.where}: {key} has Python objects, which are not read since they can execute code; "
                    "save numbers or text"
                )
            if file.tell() + prod(shape) * dtype.itemsize != member.file_size:
                raise ValueError(f"{key} is not as long as its header says")
        return _Header(dtype, shape)

    def _arrays(self, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
        import numpy as np

        wanted, headers = set(keys), self._headers()
        require_memory(self.where, {key: headers[key] for key in wanted})
        with self._archive() as archive:
            arrays = {}
            for key in sorted(wanted):
                with archive.open(f"{key}{SUFFIX}") as file:
                    arrays[key] = np.lib.format.read_array(file, allow_pickle=False)
        return arrays

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except FileNotFoundError:
            raise DataError(f"there is no file {self.path}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, MemoryError) as error:
            raise DataError(
                f"{self.where} is damaged, or no file of numpy.savez ({str(error)[:200] or type(error).__name__}); "
                f"save {', '.join(REQUIRED)} in it anew"
            ) from error
        except OSError as error:
            raise DataError(f"{self.where} cannot be read: {error.strerror or error}") from error
