"""Datasets of torchvision, small ones in place of the real ones."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedbench.components import find
from fedbench.datasets import load_dataset, torchvision_sets
from fedbench.datasets.validation import load_held_out
from fedbench.util.errors import DataError, FedbenchError, SuiteError

ARCHIVE = "cifar-100-python.tar.gz"
NAMES = ["apple", "colt's foot", "bear"]


def made(name: str, **options: Any) -> Any:
    return find("dataset", f"torchvision:{name}").make(**options)


def packed_cifar(count: dict[str, int]) -> tuple[bytes, dict[str, str]]:
    """An archive laid out as CIFAR-100's, and the MD5 of each file in it. The first value of a picture is its label."""
    md5, stream = {}, io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, number in count.items():
            labels = [position % 3 for position in range(number)]
            data = np.repeat(np.array(labels, dtype=np.uint8)[:, None], 3072, axis=1)
            content = pickle.dumps({"data": data, "fine_labels": labels})
            _add(archive, name, content, md5)
        _add(archive, "meta", pickle.dumps({"fine_label_names": NAMES}), md5)
    return stream.getvalue(), md5


def _add(archive: tarfile.TarFile, name: str, content: bytes, md5: dict[str, str]) -> None:
    entry = tarfile.TarInfo(f"cifar-100-python/{name}")
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
    md5[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with a small CIFAR-100, which torchvision takes for the real one."""
    from torchvision.datasets import CIFAR100

    content, md5 = packed_cifar({"train": 30, "test": 9})
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / ARCHIVE).write_bytes(content)
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(content, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5["meta"]})
    monkeypatch.setattr(CIFAR100, "url", f"http://127.0.0.1:9/{ARCHIVE}")
    monkeypatch.setenv("FEDBENCH_MIRROR", str(folder))
    monkeypatch.setenv("FEDBENCH_DATA_DIR", str(tmp_path / "data"))
    return folder


@pytest.mark.usefixtures("mirror")
def test_it_is_downloaded_checked_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made("CIFAR100")
    source.fetch(tmp_path / "data", None)
    dataset = load_dataset(source)
    assert ((30, 3, 32, 32), (9, 3, 32, 32)) == (dataset.train_images.shape, dataset.test_images.shape)
    assert (dataset.train_images[:, 0, 0, 0] == dataset.train_labels).all()
    assert ("apple", "colt_s foot", "bear") == dataset.class_names
    source.verify(tmp_path / "data")
    monkeypatch.setattr(torchvision_sets.TorchvisionDataset, "_of_torchvision", None)
    again = made("CIFAR100")
    assert ((3, 32, 32), 3, {"given": (30, 9)}) == (again.INFO.image_shape, again.INFO.num_classes, again.INFO.sizes)
    assert dataset.digest == load_dataset(again).digest
    assert 30 > len(load_held_out("CIFAR100", "given", 0.2, source=again).train_labels)


def test_the_archive_may_come_from_a_server_or_a_folder(
    tmp_path: Path, mirror: Path, serve: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made("CIFAR100").fetch(tmp_path / "one", mirror)
    server = serve(mirror)
    monkeypatch.setenv("FEDBENCH_MIRROR", server.url)
    made("CIFAR100").fetch(tmp_path / "two", None)
    assert [f"/{ARCHIVE}"] == [path for path, _ in server.requests]
    for folder in ("one", "two"):
        made("CIFAR100").verify(tmp_path / folder)


def test_pictures_can_be_resized_and_made_grey(tmp_path: Path, mirror: Path) -> None:
    made("CIFAR100").fetch(tmp_path / "data", mirror)
    assert (30, 1, 8, 8) == load_dataset(made("CIFAR100", picture_size=8, picture_channels=1)).train_images.shape


def test_mnist_is_the_one_that_is_built_in(tmp_path: Path, small_mnist: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    made("MNIST").fetch(tmp_path / "data", small_mnist.source)
    theirs = load_dataset(made("MNIST"), folder=tmp_path / "data")
    ours = load_dataset("mnist", folder=tmp_path / "data")
    assert (theirs.train_images == ours.train_images).all()
    assert (theirs.test_labels == ours.test_labels).all()


def test_classes_without_examples_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Letters(list[Any]):
        classes = ("N/A", "a", "b")

    from PIL import Image

    letters = Letters([(Image.new("L", (8, 8), 10 * label), label) for label in (1, 2, 1, 2)])
    monkeypatch.setattr(torchvision_sets.TorchvisionDataset, "_of_torchvision", lambda *_: letters)
    dataset = load_dataset(made("EMNIST/letters"), folder=tmp_path)
    assert (("a", "b"), [0, 1, 0, 1]) == (dataset.class_names, dataset.train_labels.tolist())


@pytest.mark.parametrize("name", torchvision_sets.SETS)
def test_torchvision_has_every_set_with_the_arguments_that_it_is_asked_with(name: str) -> None:
    import inspect

    import torchvision

    made = getattr(torchvision.datasets, name)
    taken = {each for base in made.__mro__[:-1] for each in inspect.signature(base).parameters}
    for arguments in torchvision_sets.SETS[name].halves:
        assert arguments.keys() <= taken
    assert torchvision_sets.SETS[name].variants == getattr(made, "splits", ()) or name == "STL10"


# Bad input


@pytest.mark.usefixtures("mirror")
def test_without_the_data_the_command_that_downloads_it_is_named(tmp_path: Path) -> None:
    where = rf"dataset torchvision:CIFAR100 is not in {tmp_path}/data"
    expected = rf"^{where}.*run: fedbench data fetch torchvision:CIFAR100 --data-dir "
    for action in (lambda: load_dataset(made("CIFAR100")), lambda: made("CIFAR100").INFO):
        with pytest.raises(DataError, match=expected) as caught:
            action()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CIFAR1000", "unknown classification dataset of torchvision with training and test data 'CIFAR1000'; did you"),
        ("CocoDetection", "unknown classification dataset .*; for another one write a function"),
        ("", "name a dataset of torchvision, as in torchvision:CIFAR100"),
        ("EMNIST", "unknown dataset of torchvision 'EMNIST'; .*choose from EMNIST/byclass"),
        ("EMNIST/capitals", "unknown dataset of torchvision 'EMNIST/capitals'"),
        ("MNIST/letters", "MNIST has no variants; write torchvision:MNIST"),
    ],
)
def test_a_set_that_is_unknown_or_no_classification_is_refused(name: str, expected: str) -> None:
    with pytest.raises(SuiteError, match=expected):
        made(name)


def test_a_damaged_archive_is_not_used(tmp_path: Path, mirror: Path) -> None:
    (mirror / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"^cannot fetch torchvision:CIFAR100 \(.*--from FOLDER$") as caught:
        made("CIFAR100").fetch(tmp_path / "data", None)
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_archive_is_named(tmp_path: Path, mirror: Path) -> None:
    (mirror / ARCHIVE).unlink()
    with pytest.raises(DataError, match=f"mirror has neither {ARCHIVE} nor {ARCHIVE}"):
        made("CIFAR100").fetch(tmp_path / "data", mirror)


def test_a_set_whose_archives_are_not_known_is_not_taken_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^torchvision:PCAM cannot be taken from .*: put torchvision's files into"):
        made("PCAM").fetch(tmp_path / "data", tmp_path)


def test_a_damaged_set_is_found_by_verify(tmp_path: Path, mirror: Path) -> None:
    made("CIFAR100").fetch(tmp_path / "data", mirror)
    (tmp_path / "data/cifar-100-python/test").write_bytes(b"damaged")
    with pytest.raises(FedbenchError, match=r"is damaged: run: fedbench data fetch torchvision:CIFAR100"):
        made("CIFAR100").verify(tmp_path / "data")
