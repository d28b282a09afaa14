"""What MNIST and Fashion-MNIST share: four idx files in torchvision's layout, fetched, checked and read."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fedbench.datasets import Dataset, TrainingData
from fedbench.datasets.content import make_dataset
from fedbench.datasets.download import UnavailableError, download, mirror, new_session
from fedbench.util.errors import DataError
from fedbench.util.files import CHUNK, exclusive, file_digest, plain_errors, replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_FILE = 60_000 * 28 * 28 + 16  # bytes: the training images and their header


@dataclass(frozen=True)
class IdxDataset:
    """One dataset of torchvision's MNIST family.

    Attributes
    ----------
    name
        Its key in `DATASETS`.
    folder
        Its folder in the data folder, which is also the name of torchvision's class.
    md5
        Of each unpacked file. Those of the packed files, and the public mirrors, are torchvision's.
    mean, std
        Of the training pixels scaled to [0, 1].
    class_names
        In the order of the labels.
    """

    name: str
    folder: str
    md5: Mapping[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    def raw(self, data_dir: Path) -> Path:
        """The folder of its files, as torchvision lays it out."""
        return data_dir / self.folder / "raw"


def load(dataset: IdxDataset, data_dir: Path, split: str) -> Dataset:
    """Check the four files and read them. Packed files are unpacked first."""
    train, test = _load_half(dataset, data_dir, "train"), _load_half(dataset, data_dir, "t10k")
    return make_dataset(dataset.name, split, train, test, dataset.mean, dataset.std, dataset.class_names)


def load_training(dataset: IdxDataset, data_dir: Path) -> TrainingData:
    """Check the two training files and read them; the other two need not be there."""
    images, labels = _load_half(dataset, data_dir, "train")
    return TrainingData(images, labels, dataset.mean, dataset.std, dataset.class_names)


def verify(dataset: IdxDataset, data_dir: Path) -> None:
    """Check each of the four files, unpacked or, if it is only there as such, packed."""
    folder = dataset.raw(data_dir)
    with plain_errors(f"cannot read dataset {dataset.name}"):
        _check_some_are_there(dataset, data_dir)
        for name in dataset.md5:
            packed = folder / f"{name}.gz"
            if not (folder / name).exists() and packed.exists():
                _check(dataset, packed, _packed_md5(dataset, name))
            else:
                _check(dataset, folder / name, dataset.md5[name])


def is_present(dataset: IdxDataset, data_dir: Path) -> bool:
    """Whether all four files are there, packed or unpacked."""
    folder = dataset.raw(data_dir)
    return all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in dataset.md5)


def fetch(dataset: IdxDataset, data_dir: Path, source: Path | None) -> None:
    """Bring those of the four files that are not there and good (see the package's docstring)."""
    folder = dataset.raw(data_dir)
    with plain_errors(f"cannot fetch {dataset.name} into {folder}"), exclusive(folder):
        for name, md5 in dataset.md5.items():
            if not _is_good(folder / name, md5):
                if source is not None:
                    _bring_from_source(dataset, name, folder, source)
                elif not _bring_from_local_or_mirror(dataset, name, folder):
                    _bring_from_servers(dataset, name, folder)


def _is_good(path: Path, md5: str) -> bool:
    return path.is_file() and file_digest(path, "md5") == md5


def _check_some_are_there(dataset: IdxDataset, data_dir: Path) -> None:
    folder = dataset.raw(data_dir)
    if not any((folder / name).exists() or (folder / f"{name}.gz").exists() for name in dataset.md5):
        raise DataError(f"dataset {dataset.name} is not in {data_dir}: run: fedbench data fetch {dataset.name}")


def _check(dataset: IdxDataset, path: Path, md5: str) -> None:
    if not path.is_file():
        raise DataError(f"{path} is missing: run: fedbench data fetch {dataset.name}")
    if not _is_good(path, md5):
        raise DataError(f"{path} is damaged: delete it and run: fedbench data fetch {dataset.name}")


def _unpack_local(dataset: IdxDataset, folder: Path, name: str) -> None:
    """Unpack a packed file that a user has copied into the data folder."""
    packed = folder / f"{name}.gz"
    if packed.exists():
        with exclusive(folder):
            if not (folder / name).exists():  # another process may have done it while this one waited
                _install(dataset, packed, folder / name, f"delete it and run: fedbench data fetch {dataset.name}")


def _load_half(dataset: IdxDataset, data_dir: Path, half: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    folder = dataset.raw(data_dir)
    with plain_errors(f"cannot read dataset {dataset.name}"):
        _check_some_are_there(dataset, data_dir)
        for name in (name for name in dataset.md5 if name.startswith(half)):
            if not (folder / name).exists():
                _unpack_local(dataset, folder, name)
            _check(dataset, folder / name, dataset.md5[name])
        return _read(folder, half)


def _read(folder: Path, half: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images, (N, 1, 28, 28), and labels, (N,): bytes behind a header of 16 and 8 bytes.

    Torchvision reads the same, but importing it takes longer than reading does.
    """
    import numpy as np

    images = np.fromfile(folder / f"{half}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return images, np.fromfile(folder / f"{half}-labels-idx1-ubyte", np.uint8, offset=8).astype(np.int64)


def _torchvision_class(dataset: IdxDataset) -> Any:
    import torchvision  # takes seconds: only where it is needed

    return getattr(torchvision.datasets, dataset.folder)


def _packed_md5(dataset: IdxDataset, name: str) -> str:
    md5s: dict[str, str] = dict(_torchvision_class(dataset).resources)
    return md5s[f"{name}.gz"]


def _bring_from_source(dataset: IdxDataset, name: str, folder: Path, source: Path) -> None:
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: give the folder that holds {name}.gz")
    for place in (source / dataset.folder / "raw", source / "raw", source):
        for origin in (place / f"{name}.gz", place / name):
            if origin.is_file():
                _install(dataset, origin, folder / name, "give another copy")
                return
    raise DataError(f"{source} has neither {dataset.folder}/raw/{name}.gz nor {name}.gz")


def _bring_from_local_or_mirror(dataset: IdxDataset, name: str, folder: Path) -> bool:
    packed = folder / f"{name}.gz"
    if packed.is_file() and _is_good(packed, _packed_md5(dataset, name)):
        _install(dataset, packed, folder / name, "delete it")
        return True
    place = mirror()
    origin = place / dataset.folder / "raw" / packed.name if isinstance(place, Path) else None
    if origin is None or not origin.is_file():
        return False
    _install(dataset, origin, folder / name, "mend the folder that FEDBENCH_MIRROR names")
    return True


def _bring_from_servers(dataset: IdxDataset, name: str, folder: Path) -> None:
    place = mirror()
    problems = [] if place is None else [f"FEDBENCH_MIRROR has no {dataset.folder}/raw/{name}.gz"]
    if isinstance(place, str):
        try:
            if _download(dataset, name, folder, f"{place}/{dataset.folder}/raw"):
                return
        except UnavailableError as error:
            raise DataError(
                f"FEDBENCH_MIRROR: {error}: set it to a folder or URL that has the data, unset it, "
                f"or run: fedbench data fetch {dataset.name} --from FOLDER"
            ) from error
    for server in _torchvision_class(dataset).mirrors:
        try:
            if _download(dataset, name, folder, server.rstrip("/")):
                return
            problems.append(f"{server} has no such file")
        except UnavailableError as error:
            problems.append(str(error))
    raise DataError(
        f"cannot fetch {name}.gz: {'; '.join(problems)}: set FEDBENCH_MIRROR to a folder or URL that has it, "
        f"or run: fedbench data fetch {dataset.name} --from FOLDER"
    )


def _download(dataset: IdxDataset, name: str, folder: Path, address: str) -> bool:
    """Download one packed file and unpack it; return False where the server does not have it."""
    part, md5 = folder / f"{name}.gz.part", _packed_md5(dataset, name)
    with new_session() as session:
        went_on = part.exists()
        if not _is_good(part, md5) and not download(session, f"{address}/{name}.gz", part, LARGEST_FILE):
            return False
        if went_on and not _is_good(part, md5):  # the part that was here did not fit: take the whole
            part.unlink()
            download(session, f"{address}/{name}.gz", part, LARGEST_FILE)
    if not _is_good(part, md5):
        part.unlink()
        raise UnavailableError(f"{address}/{name}.gz is not the published file: its md5 differs")
    try:
        _install(dataset, part, folder / name, "run the same command again")
    finally:
        part.unlink()  # also when the disk is full: nobody should have to look for it
    return True


def _opened(origin: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(origin) if origin.suffix in {".gz", ".part"} else origin.open("rb")


def _install(dataset: IdxDataset, origin: Path, target: Path, advice: str) -> None:
    """Unpack `origin` (or copy it, if it is not packed) to `target`, whole and with the right md5, or not at all."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    try:
        with _opened(origin) as file, replacing(target) as unpacked:
            while (chunk := file.read(CHUNK)) and size <= LARGEST_FILE:
                size += len(chunk)
                digest.update(chunk)
                unpacked.write(chunk)
            if digest.hexdigest() != dataset.md5[target.name]:
                raise DataError(f"{origin} is damaged or not {dataset.name}'s: {advice}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{origin} is damaged ({error}): {advice}") from error
