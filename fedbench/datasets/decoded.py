"""Pictures, read and decoded to arrays, which are kept in the data folder: each picture is decoded once."""

from __future__ import annotations

import os
import struct
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

from fedbench.datasets import Dataset, TrainingData
from fedbench.datasets.arrays import OPTIONAL, REQUIRED, dataset_of, training_of
from fedbench.datasets.npz import OF_TRAINING, read
from fedbench.util.errors import DataError
from fedbench.util.files import exclusive, regular, replacing, shown
from fedbench.util.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

GREY = ("1", "L", "LA")  # Pillow's modes
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # more than 8 bits, which would be cut
LEAST = 5  # pixels: an axis of fewer entries has the channels

Arrays = dict[str, "NDArray[Any]"]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class DecodedDataset(ABC):
    """A dataset of pictures; see `fedbench.datasets` for its methods. Its options are those of all such datasets.

    Attributes
    ----------
    picture_size
        Width and height that pictures are resized to, bilinearly; None: they must have one size.
    picture_channels
        1 makes them grey, 3 colours; None: they must all be grey or all colours.
    """

    picture_size: Annotated[int, Field(ge=LEAST, le=4096)] | None = None
    picture_channels: Literal[1, 3] | None = None

    @property
    @abstractmethod
    def where(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it comes from."""

    @abstractmethod
    def cache(self, data_dir: Path) -> Path:
        """Where the arrays are kept: another place for other pictures or options."""

    @abstractmethod
    def decoded(self, data_dir: Path) -> Arrays:
        """Decode all pictures to the arrays of `fedbench.datasets.arrays`."""

    def load(self, data_dir: Path, split: str) -> Dataset:  # noqa: ARG002 - there is one split
        """Decode the pictures, or take them as they were decoded before."""
        dataset, _ = dataset_of(self.where, self.arrays(data_dir), self.url)
        return dataset

    def load_training(self, data_dir: Path, split: str) -> TrainingData:  # noqa: ARG002 - as for load
        """The training pictures alone."""
        return training_of(self.where, self.arrays(data_dir, OF_TRAINING))

    def arrays(self, data_dir: Path, keys: Sequence[str] = REQUIRED + OPTIONAL) -> Arrays:
        """The arrays, decoded or as they are kept."""
        return kept(self.cache(data_dir), partial(self.decoded, data_dir), partial(read, keys=keys))

    def shape_of(self, picture: Image.Image) -> tuple[int, int, int]:
        """The shape (C, H, W) that a picture, and so all pictures, are decoded to."""
        size = self.picture_size
        return self.picture_channels or _channels(picture), size or picture.height, size or picture.width

    def pixels_of(self, picture: Image.Image, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
        """A picture as (C, H, W), converted to this shape as far as the options say."""
        import numpy as np
        from PIL import Image

        channels, height, width = shape
        if self.picture_channels is None and _channels(picture) != channels:
            is_, others = ("grey", "in colour") if channels == 3 else ("in colour", "grey")
            raise DataError(f"{where} is {is_}, and others are {others}; set picture_channels to 1 or 3")
        if self.picture_size is None and picture.size != (width, height):
            raise DataError(
                f"{where} is {picture.width}x{picture.height} pixels, and others are {width}x{height}; "
                "set picture_size to what all are resized to"
            )
        converted = picture.convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(converted.resize((width, height), Image.Resampling.BILINEAR))
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def kept(path: Path, decode: Callable[[], Arrays], read: Callable[[Path], Arrays]) -> Arrays:
    """The arrays of a file, which is made if it is missing or damaged.

    Of several processes that start at once, one makes it and the others wait. In a folder that cannot be written, each
    decodes the pictures for itself.
    """
    import numpy as np

    with suppress(DataError):
        return read(path)
    arrays: Arrays = {}
    try:
        with exclusive(path.parent):
            with suppress(DataError):  # another process has made it meanwhile
                return read(path)
            arrays = decode()
            with replacing(path) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type] # its own parameters have other types
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written ({error.strerror}): pictures are decoded each time\n")
    return arrays or decode()


def decode_all(
    decode: Callable[[Item], NDArray[np.uint8]], items: Sequence[Item], shape: Sequence[int], name: str
) -> NDArray[np.uint8]:
    """The pictures (N, C, H, W) that `decode` makes of each item, of this `shape` (C, H, W)."""
    import numpy as np

    pixels = np.empty((len(items), *shape), dtype=np.uint8)
    # Threads, not processes: Pillow decodes outside the interpreter's lock, and a run's worker may not fork.
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress(f"decoding {name}", len(items), "pictures") as advance,
    ):
        warnings.simplefilter("ignore")  # of Pillow; what cannot be decoded raises
        for position, picture in enumerate(pool.map(decode, items)):
            pixels[position] = picture
            advance()
    return pixels


@contextmanager
def opened(
    path: Path, advice: str = "replace or remove it", formats: tuple[str, ...] | None = None
) -> Iterator[Image.Image]:
    """A picture in one of Pillow's `formats`; whatever is wrong with the file is a `DataError`."""
    from PIL import Image

    try:
        with Image.open(regular(path), formats=formats) as picture:
            if picture.mode in DEEP:
                raise DataError(
                    f"{shown(path)} has more than 8 bits a pixel; convert it, or give floats in a .npz file"
                )
            yield picture
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{shown(path)} cannot be read as a picture ({reason}); {advice}") from error


def _channels(picture: Image.Image) -> int:
    """1 if a picture is grey, else 3."""
    return 1 if picture.mode in GREY else 3
