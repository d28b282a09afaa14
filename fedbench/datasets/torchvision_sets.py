"""The classification datasets of torchvision, downloaded and checked by torchvision, at its paths in the data folder.

``torchvision:CIFAR100`` names one, ``torchvision:EMNIST/letters`` a variant of one. Their pictures are decoded once, to
arrays in the data folder; torchvision is imported for that only.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedbench.datasets import DatasetInfo, data_dir
from fedbench.datasets.arrays import SPLIT, Header, info_of, require_memory
from fedbench.datasets.decoded import DecodedDataset, decode_all
from fedbench.datasets.download import UnavailableError, download, mirror, new_session
from fedbench.datasets.npz import known
from fedbench.util.advice import data_command
from fedbench.util.errors import DataError, SuiteError, one_line
from fedbench.util.files import exclusive, plain_errors, replacing
from fedbench.util.text import unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Arguments = Mapping[str, object]
BY_TRAIN: tuple[Arguments, Arguments] = ({"train": True}, {"train": False})
BY_SPLIT: tuple[Arguments, Arguments] = ({"split": "train"}, {"split": "test"})
BY_TRAINVAL: tuple[Arguments, Arguments] = ({"split": "trainval"}, {"split": "test"})
BY_VAL: tuple[Arguments, Arguments] = ({"split": "train"}, {"split": "val"})
LARGEST_ARCHIVE = 1 << 40  # bytes


def _idx(name: str) -> tuple[str, ...]:
    files = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(f"{name}/raw/{file}-ubyte.gz" for file in files)


@dataclass(frozen=True)
class _Set:
    """How a class of torchvision is asked for training and for test data.

    Attributes
    ----------
    archives
        What is downloaded, where torchvision puts it in the data folder: a mirror has the same paths.
    variants
        The values of its parameter ``split`` that are datasets of their own.
    """

    halves: tuple[Arguments, Arguments]
    archives: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()


SETS: Mapping[str, _Set] = {
    "MNIST": _Set(BY_TRAIN, _idx("MNIST")),
    "FashionMNIST": _Set(BY_TRAIN, _idx("FashionMNIST")),
    "KMNIST": _Set(BY_TRAIN, _idx("KMNIST")),
    "EMNIST": _Set(
        BY_TRAIN, ("EMNIST/raw/gzip.zip",), ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
    ),
    "QMNIST": _Set(BY_TRAIN),
    "USPS": _Set(BY_TRAIN, ("usps.bz2", "usps.t.bz2")),
    "CIFAR10": _Set(BY_TRAIN, ("cifar-10-python.tar.gz",)),
    "CIFAR100": _Set(BY_TRAIN, ("cifar-100-python.tar.gz",)),
    "SVHN": _Set(BY_SPLIT, ("train_32x32.mat", "test_32x32.mat")),
    "STL10": _Set(BY_SPLIT, ("stl10_binary.tar.gz",)),
    "GTSRB": _Set(
        BY_SPLIT,
        tuple(
            f"gtsrb/{file}.zip" for file in ("GTSRB-Training_fixed", "GTSRB_Final_Test_Images", "GTSRB_Final_Test_GT")
        ),
    ),
    "FER2013": _Set(BY_SPLIT),
    "PCAM": _Set(BY_SPLIT),
    "Food101": _Set(BY_SPLIT, ("food-101.tar.gz",)),
    "Flowers102": _Set(
        BY_SPLIT, ("flowers-102/102flowers.tgz", "flowers-102/imagelabels.mat", "flowers-102/setid.mat")
    ),
    "OxfordIIITPet": _Set(BY_TRAINVAL, ("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz")),
    "FGVCAircraft": _Set(BY_TRAINVAL, ("fgvc-aircraft-2013b.tar.gz",)),
    "StanfordCars": _Set(BY_SPLIT),
    "DTD": _Set(BY_SPLIT, ("dtd/dtd-r1.0.1.tar.gz",)),
    "Country211": _Set(BY_SPLIT, ("country211.tgz",)),
    "RenderedSST2": _Set(BY_SPLIT, ("rendered-sst2.tgz",)),
    "Imagenette": _Set(BY_VAL, ("imagenette2.tgz",)),
    "ImageNet": _Set(BY_VAL),
}


@dataclass(frozen=True)
class TorchvisionDataset(DecodedDataset):
    """A dataset of `SETS`, or a variant of one."""

    name: str

    SPLIT_NAMES: ClassVar[tuple[str, ...]] = (SPLIT,)

    def __post_init__(self) -> None:
        name, _, variant = self.name.partition("/")
        if name not in SETS:
            raise SuiteError(
                f"{unknown('classification dataset of torchvision with training and test data', name, SETS)}; "
                "for another one write a function that returns its arrays"
            )
        if SETS[name].variants and variant not in SETS[name].variants:
            shown = [f"{name}/{each}" for each in SETS[name].variants]
            raise SuiteError(unknown("dataset of torchvision", self.name, shown))
        if variant and not SETS[name].variants:
            raise SuiteError(f"dataset torchvision:{self.name}: {name} has no variants; write torchvision:{name}")

    @property
    def where(self) -> str:
        """Its name in a suite."""
        return f"torchvision:{self.name}"

    @property
    def url(self) -> str:
        """Where torchvision describes it."""
        return f"https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.{self._class_name}.html"

    @property
    def command(self) -> str:
        """The command that downloads it."""
        return data_command("fetch", self.where)

    @cached_property
    def INFO(self) -> DatasetInfo:  # noqa: N802 - as every dataset has it
        """Of the decoded pictures."""
        with suppress(DataError):  # if they are not decoded yet
            return known(self.cache(data_dir()), self.url)
        arrays = self.arrays(data_dir())
        return info_of(self.where, arrays, arrays, self.url)

    def fetch(self, data_dir: Path, source: Path | None = None) -> None:
        """Take the archives from `source` or the mirror, and let torchvision check them and download the others."""
        archives = SETS[self._class_name].archives
        if source is not None and not archives:
            raise DataError(f"{self.where} cannot be taken from {source}: put torchvision's files into {data_dir}")
        with plain_errors(f"cannot fetch {self.where} into {data_dir}"), exclusive(data_dir / "decoded"):
            for archive in archives:
                if not (data_dir / archive).exists():
                    self._take(archive, data_dir, source)
            for half in (0, 1):
                self._of_torchvision(half, data_dir, is_fetched=True)
            for decoded in data_dir.glob(f"decoded/torchvision-{self._class_name}-*.npz"):
                decoded.unlink()

    def verify(self, data_dir: Path) -> None:
        """Let torchvision check the files, and decode every picture."""
        for half in (0, 1):
            source = self._of_torchvision(half, data_dir)
            with _plain(f"dataset {self.where} is damaged", f"delete its files and run: {self.command}"):
                for position in range(len(source)):
                    source[position]

    @property
    def _class_name(self) -> str:
        return self.name.partition("/")[0]

    def cache(self, data_dir: Path) -> Path:
        """Named after the dataset and the options."""
        options = f"{self.picture_size or 'any'}-{self.picture_channels or 'any'}"
        return data_dir / "decoded" / f"torchvision-{self.name.replace('/', '-')}-{options}.npz"

    def _take(self, archive: str, data_dir: Path, source: Path | None) -> None:
        """Get an archive from a folder or a mirror that has it; what it holds is checked by torchvision."""
        target, place = data_dir / archive, mirror() if source is None else source
        if isinstance(place, Path):
            found = [path for path in (place / archive, place / Path(archive).name) if path.is_file()]
            if found:
                with found[0].open("rb") as file, replacing(target) as copy:
                    shutil.copyfileobj(file, copy)
            elif source is not None:
                raise DataError(f"{source} has neither {archive} nor {Path(archive).name}")
        elif place is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            try:
                with new_session() as session:
                    if download(session, f"{place}/{archive}", part, LARGEST_ARCHIVE):
                        part.replace(target)
            except UnavailableError as error:
                raise DataError(
                    f"FEDBENCH_MIRROR: {error}: set it to a folder or URL that has the data, unset it, "
                    f"or run: {self.command} --from FOLDER"
                ) from error

    def _of_torchvision(self, half: int, data_dir: Path, is_fetched: bool = False) -> Any:
        """The training or the test data as torchvision's dataset."""
        import torchvision  # takes seconds: only where it is needed

        made = getattr(torchvision.datasets, self._class_name)
        given, variant = SETS[self._class_name], self.name.partition("/")[2]
        arguments = {**given.halves[half], **({"split": variant} if variant else {})}
        if is_fetched and any("download" in inspect.signature(each).parameters for each in made.__mro__[:-1]):
            arguments["download"] = True  # all but those that need an account
        if is_fetched:
            archives = " and ".join(Path(archive).name for archive in given.archives) or "what it asks for"
            mirrored = f"set FEDBENCH_MIRROR to a folder or URL that has {archives}"
            with _plain(f"cannot fetch {self.where}", f"{mirrored}, or run: {self.command} --from FOLDER"):
                return made(str(data_dir), **arguments)
        with _plain(f"dataset {self.where} cannot be read", f"run: {self.command}"):
            try:
                return made(str(data_dir), **arguments)
            except (RuntimeError, FileNotFoundError):  # torchvision's text is on its own parameters
                where = f"dataset {self.where} is not in {data_dir}, or is damaged"
                raise DataError(f"{where}: run: {self.command}") from None

    def decoded(self, data_dir: Path) -> dict[str, NDArray[Any]]:
        """See `DecodedDataset.decoded`."""
        import numpy as np

        arrays: dict[str, NDArray[Any]] = {}
        names: list[Any] = []
        for half, key in enumerate(("train", "test")):
            source = self._of_torchvision(half, data_dir)
            names = list(getattr(source, "classes", ()) or names)
            arrays[f"x_{key}"], arrays[f"y_{key}"] = self._arrays(source, key)
        present, arrays["y_train"] = np.unique(arrays["y_train"], return_inverse=True)  # EMNIST/letters begins at 1
        if missing := set(arrays["y_test"].tolist()) - set(present.tolist()):
            raise DataError(f"dataset {self.where} has test examples of class {min(missing)} and none for training")
        arrays["y_test"] = np.searchsorted(present, arrays["y_test"])
        if len(names) > present.max():
            firsts = [name if isinstance(name, str) else name[0] for name in names]  # of several that mean the same
            arrays["names"] = np.array([re.sub(r"[^\w .:/-]", "_", firsts[label]) for label in present])
        return arrays

    def _arrays(self, source: Any, key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        import numpy as np

        with _plain(f"dataset {self.where} is damaged", f"delete its files and run: {self.command}"):
            shape, labels = self.shape_of(source[0][0]), np.empty(len(source), dtype=np.int64)
            require_memory(self.where, {f"x_{key}": Header(np.dtype(np.uint8), (len(source), *shape))})

            def decode(position: int) -> NDArray[np.uint8]:
                picture, labels[position] = source[position]
                return self.pixels_of(picture, shape, f"{self.where}: {key} {position}")

            return decode_all(decode, range(len(source)), shape, self.where), labels


@contextmanager
def _plain(what: str, advice: str) -> Iterator[None]:
    """Turn whatever torchvision raises into a `DataError` of one line."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{what} ({one_line(error).rstrip(': ')}): {advice}") from error
