"""Decoded pictures, kept in the data folder so that they are decoded once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.datasets.arrays import OPTIONAL, REQUIRED
from fedbench.datasets.npz import read
from fedbench.util.errors import DataError
from fedbench.util.files import exclusive, replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray


def kept(
    path: Path, make: Callable[[], dict[str, NDArray[Any]]], keys: Sequence[str] = REQUIRED + OPTIONAL
) -> dict[str, NDArray[Any]]:
    """The arrays of a file in the data folder, which is made if it is missing or damaged.

    Of several processes that start at once, one makes it and the others wait. In a folder that cannot be written, each
    makes the arrays for itself.
    """
    import numpy as np

    with suppress(DataError):
        return read(path, keys)
    try:
        with exclusive(path.parent):
            with suppress(DataError):  # another process has made it meanwhile
                return read(path, keys)
            arrays = make()
            with replacing(path) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type] # its own parameters have other types
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written ({error.strerror}): pictures are decoded each time\n")
        arrays = make()
    return {key: array for key, array in arrays.items() if key in keys}
