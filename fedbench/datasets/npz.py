"""A dataset in one ``.npz`` file: the arrays of `fedbench.datasets.arrays`. Pickled objects are never read.

What is known without loading it comes from the headers and labels of the file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
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
    Header,
    dataset_of,
    info_of,
    require_keys,
    require_memory,
    require_shapes,
    training_of,
)
from fedbench.util.errors import DataError
from fedbench.util.files import regular, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".npy"  # of an array in the archive
OF_TRAINING = ("x_train", "y_train", *OPTIONAL)
OF_LABELS = ("y_train", "y_test", "names")


@dataclass(frozen=True)
class NpzDataset:
    """The dataset of a file; see `fedbench.datasets` for its methods."""

    path: str

    @cached_property
    def INFO(self) -> DatasetInfo:  # noqa: N802 - as every dataset has it
        """From the headers and the labels."""
        return known(Path(self.path), Path(self.path).as_uri())

    def load(self, data_dir: Path, split: str) -> Dataset:  # noqa: ARG002 - the file is where it is, and has one split
        """Read the arrays and check every value."""
        path = Path(self.path)
        dataset, _ = dataset_of(shown(path), read(path), path.as_uri())
        return dataset

    def load_training(self, data_dir: Path, split: str) -> TrainingData:  # noqa: ARG002 - as for load
        """Read the training arrays; those for testing stay closed."""
        path = Path(self.path)
        return training_of(shown(path), read(path, OF_TRAINING))

    def verify(self, data_dir: Path) -> None:
        """Check every value; raises `DataError` for the first that is wrong."""
        self.load(data_dir, "")


def known(path: Path, source: str) -> DatasetInfo:
    """What is known of a file from its headers and labels; `source` is where it comes from."""
    return info_of(shown(path), _headers(path), read(path, OF_LABELS), source)


def read(path: Path, keys: Sequence[str] = REQUIRED + OPTIONAL) -> dict[str, NDArray[Any]]:
    """The arrays of a file, of those named in `keys` that it has; shapes and types are checked, values are not."""
    headers = _headers(path)
    wanted = [key for key in keys if key in headers]
    require_memory(shown(path), {key: headers[key] for key in wanted})
    return read_arrays(path, wanted)


def read_arrays(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a file that has these; nothing but their checksums is checked."""
    import numpy as np

    arrays = {}
    with _opened(path) as archive:
        for key in keys:
            with archive.open(f"{key}{SUFFIX}") as file:
                arrays[key] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _headers(path: Path) -> dict[str, Header]:
    with _opened(path) as archive:
        members = {member.filename.removesuffix(SUFFIX): member for member in archive.infolist()}
        require_keys(shown(path), list(members))
        headers = {key: _header(shown(path), archive, key, member) for key, member in members.items()}
    require_shapes(shown(path), headers)
    return headers


def _header(where: str, archive: zipfile.ZipFile, key: str, member: zipfile.ZipInfo) -> Header:
    from numpy.lib import format as npy

    with archive.open(member) as file:
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(file))
        if reader is None:
            raise ValueError(f"{key} has a header of another version")
        shape, _, dtype = reader(file)
        if dtype.hasobject:
            raise DataError(
                f"{where}: {key} has Python objects, which are not read since they can execute code; "
                "save numbers or text"
            )
        if file.tell() + prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"{key} is not as long as its header says")
    return Header(dtype, shape)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            yield archive
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    except DataError:
        raise
    except Exception as error:  # whatever zipfile, and NumPy's parser of headers, raise for damaged bytes
        raise DataError(
            f"{shown(path)} is damaged, or no file of numpy.savez ({str(error)[:200] or type(error).__name__}); "
            f"save {', '.join(REQUIRED)} in it anew"
        ) from error
