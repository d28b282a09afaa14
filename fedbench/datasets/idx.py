"""MNIST and Fashion-MNIST: four idx files each, in torchvision's layout, downloaded, checked and read."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.content import make_dataset
from fedbench.datasets.download import UnavailableError, download, mirror, new_session
from fedbench.util.advice import data_command
from fedbench.util.errors import DataError
from fedbench.util.files import CHUNK, exclusive, file_digest, plain_errors, regular, replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_FILE = 60_000 * 28 * 28 + 16  # bytes: the training images and their header


@dataclass(frozen=True)
class IdxDataset:
    """A dataset of torchvision's MNIST family; see `fedbench.datasets` for its methods.

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
    """

    name: str
    folder: str
    INFO: DatasetInfo
    md5: Mapping[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that downloads it."""
        return data_command("fetch", self.name)

    def raw(self, data_dir: Path) -> Path:
        """The folder of its files, as torchvision lays it out."""
        return data_dir / self.folder / "raw"

    def load(self, data_dir: Path, split: str) -> Dataset:
        """Check the four files and read them. Packed files are unpacked first."""
        train, test = self._read(data_dir, "train"), self._read(data_dir, "t10k")
        return make_dataset(self.name, split, train, test, self.mean, self.std, self.class_names, info=self.INFO)

    def load_training(self, data_dir: Path, split: str) -> TrainingData:  # noqa: ARG002 - there is one split
        """Check the two training files and read them; the test files are not opened and need not exist."""
        images, labels = self._read(data_dir, "train")
        return TrainingData(images, labels, self.mean, self.std, self.class_names)

    def is_present(self, data_dir: Path) -> bool:
        """Whether all four files exist, packed or unpacked."""
        folder = self.raw(data_dir)
        return all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in self.md5)

    def verify(self, data_dir: Path) -> None:
        """Check the four files. Packed files are unpacked first."""
        self._read(data_dir, "train")
        self._read(data_dir, "t10k")

    def fetch(self, data_dir: Path, source: Path | None = None) -> None:
        """Get those of the four files that are missing or damaged (see the package's docstring)."""
        folder = self.raw(data_dir)
        with plain_errors(f"cannot fetch {self.name} into {folder}"), exclusive(folder):
            for name, md5 in self.md5.items():
                target = folder / name
                if _is_good(target, md5):
                    continue
                if source is not None:
                    self._copy(source, target)
                elif not self._copy_if_local(target):
                    self._download(target)

    def _read(self, data_dir: Path, half: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images, (N, 1, 28, 28), and labels, (N,): bytes behind headers of 16 and 8 bytes.

        Torchvision reads the same, but importing it takes longer than reading does.
        """
        import numpy as np

        folder = self.raw(data_dir)
        images, labels = f"{half}-images-idx3-ubyte", f"{half}-labels-idx1-ubyte"
        with plain_errors(f"cannot read dataset {self.name}"):
            if not any((folder / name).exists() or (folder / f"{name}.gz").exists() for name in self.md5):
                raise DataError(f"dataset {self.name} is not in {data_dir}: run: {self.command}")
            for path in (folder / images, folder / labels):
                self._unpack(path)
                if not path.is_file():
                    raise DataError(f"{path} is missing: run: {self.command}")
                if not _is_good(path, self.md5[path.name]):
                    raise DataError(f"{path} is damaged: delete it and run: {self.command}")
            pixels = np.fromfile(folder / images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
            return pixels, np.fromfile(folder / labels, np.uint8, offset=8).astype(np.int64)

    def _unpack(self, target: Path) -> None:
        """Unpack a file that a user has copied into the data folder."""
        packed = target.with_name(f"{target.name}.gz")
        if not target.exists() and packed.exists():
            with exclusive(target.parent):
                if not target.exists():  # another process may have done it meanwhile
                    self._install(packed, target, f"delete it and run: {self.command}")

    def _torchvision_class(self) -> Any:
        import torchvision  # takes seconds: only where it is needed

        return getattr(torchvision.datasets, self.folder)

    def _packed_md5(self, name: str) -> str:
        md5s: dict[str, str] = dict(self._torchvision_class().resources)
        return md5s[f"{name}.gz"]

    def _copy(self, source: Path, target: Path) -> None:
        """Take a file from the folder that the user names."""
        if not source.is_dir():
            raise DataError(f"{source} is not a folder: give the folder that holds {target.name}.gz")
        for place in (source / self.folder / "raw", source / "raw", source):
            for origin in (place / f"{target.name}.gz", place / target.name):
                if origin.is_file():
                    self._install(origin, target, "give another copy")
                    return
        raise DataError(f"{source} has neither {self.folder}/raw/{target.name}.gz nor {target.name}.gz")

    def _copy_if_local(self, target: Path) -> bool:
        """Take a file that is packed in the data folder, or in a mirror that is a folder."""
        packed = target.with_name(f"{target.name}.gz")
        if packed.is_file() and _is_good(packed, self._packed_md5(target.name)):
            self._install(packed, target, "delete it")
            return True
        place = mirror()
        origin = place / self.folder / "raw" / packed.name if isinstance(place, Path) else None
        if origin is None or not origin.is_file():
            return False
        self._install(origin, target, "fix the folder that FEDBENCH_MIRROR names")
        return True

    def _download(self, target: Path) -> None:
        """Download a file from the mirror, else from the first public server that has it."""
        place, packed = mirror(), f"{target.name}.gz"
        by_hand = f"or run: {self.command} --from FOLDER"
        if isinstance(place, str):
            try:
                if self._download_from(f"{place}/{self.folder}/raw/{packed}", target):
                    return
            except UnavailableError as error:
                raise DataError(
                    f"FEDBENCH_MIRROR: {error}: set it to a folder or URL that has the data, unset it, {by_hand}"
                ) from error
        problems = [] if place is None else [f"FEDBENCH_MIRROR has no {self.folder}/raw/{packed}"]
        for server in self._torchvision_class().mirrors:
            try:
                if self._download_from(f"{server.rstrip('/')}/{packed}", target):
                    return
                problems.append(f"{server} has no such file")
            except UnavailableError as error:
                problems.append(str(error))
        raise DataError(
            f"cannot fetch {packed}: {'; '.join(problems)}: set FEDBENCH_MIRROR to a folder or URL that has it, "
            f"{by_hand}"
        )

    def _download_from(self, url: str, target: Path) -> bool:
        """Download a packed file, resuming, and unpack it; False if the server does not have it."""
        part, md5 = target.with_name(f"{target.name}.gz.part"), self._packed_md5(target.name)
        with new_session() as session:
            resumed = part.exists()
            if not _is_good(part, md5) and not download(session, url, part, LARGEST_FILE):
                return False
            if resumed and not _is_good(part, md5):  # the part was of another file
                part.unlink()
                download(session, url, part, LARGEST_FILE)
        if not _is_good(part, md5):
            part.unlink()
            raise UnavailableError(f"{url} is not the published file: its md5 differs")
        try:
            self._install(part, target, "run the same command again")
        finally:
            part.unlink()  # also if the disk is full
        return True

    def _install(self, origin: Path, target: Path, advice: str) -> None:
        """Unpack or copy `origin` to `target`, whole and with the right md5, or not at all."""
        digest, size = hashlib.md5(usedforsecurity=False), 0
        is_packed = origin.suffix in {".gz", ".part"}
        try:
            regular(origin)
            with gzip.open(origin) if is_packed else origin.open("rb") as file, replacing(target) as unpacked:
                while (chunk := file.read(CHUNK)) and size <= LARGEST_FILE:
                    size += len(chunk)
                    digest.update(chunk)
                    unpacked.write(chunk)
                if digest.hexdigest() != self.md5[target.name]:
                    raise DataError(f"{origin} is damaged or not {self.name}'s: {advice}")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{origin} is damaged ({error}): {advice}") from error


def _is_good(path: Path, md5: str) -> bool:
    return path.is_file() and file_digest(path, "md5") == md5
