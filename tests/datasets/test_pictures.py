"""Folders of pictures as a dataset, and what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedbench.components import find
from fedbench.datasets import load_dataset, pictures
from fedbench.datasets.validation import load_held_out
from fedbench.util.errors import DataError, SuiteError

NUMBER = {"train": 6, "test": 2}  # pictures of each class


def picture(label: int, number: int, width: int = 8, height: int = 6) -> Image.Image:
    """In colour; the red value of a pixel is ten times the label, the green one the picture's number."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = 10 * label, number
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes, dog after cat."""
    for half, count in NUMBER.items():
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / half / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture(label, number).save(folder / f"{number}.png")
    return tmp_path / "photos"


def made(photos: Path, **options: Any) -> Any:
    return find("dataset", "./photos", photos.parent).make(**options)


def load(photos: Path, **options: Any) -> Any:
    return load_dataset(made(photos, **options), folder=photos.parent / "data")


def test_the_folders_are_the_classes_in_alphabetical_order(photos: Path) -> None:
    dataset = load(photos)
    assert (("cat", "dog"), (12, 3, 6, 8)) == (dataset.class_names, tuple(dataset.train_images.shape))
    assert (10 * dataset.train_labels == dataset.train_images[:, 0, 0, 0]).all()
    assert ([6, 6], [2, 2]) == (dataset.train_labels.bincount().tolist(), dataset.test_labels.bincount().tolist())


def test_pictures_are_in_an_order_that_mixes_the_classes_and_depends_on_names_alone(photos: Path) -> None:
    dataset = load(photos)
    assert 6 > dataset.train_labels[:6].sum() > 0
    moved = photos.parent / "elsewhere" / "photos"
    shutil.copytree(photos, moved)
    assert dataset.digest == load(moved).digest


def test_what_is_known_without_decoding_them_is_read_from_names_and_one_picture(photos: Path) -> None:
    for path in photos.glob("*/dog/*"):
        path.write_bytes(b"")
    info = made(photos).INFO
    assert ((3, 6, 8), 2, {"given": (12, 4)}) == (info.image_shape, info.num_classes, info.sizes)


def test_pictures_are_decoded_once_until_one_changes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []
    decode = pictures.PictureDataset._decode
    monkeypatch.setattr(
        pictures.PictureDataset, "_decode", lambda self, path: (decoded.append(path), decode(self, path))[1]
    )
    first = load(photos)
    assert (first.digest, 16) == (load(photos).digest, len(decoded))
    picture(0, 99).save(photos / "train/cat/0.png")
    assert first.digest != load(photos).digest
    assert 32 == len(decoded)
    for kept in (photos.parent / "data/decoded").glob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:-100])
    assert first.digest != load(photos).digest
    assert 48 == len(decoded)


def test_in_a_data_folder_that_cannot_be_written_they_are_decoded_each_time(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos.parent / "data").write_text("a file where the folder should be")
    assert 12 == len(load(photos).train_labels)
    assert "pictures are decoded each time" in capsys.readouterr().err


def test_pictures_are_resized_and_made_grey_on_demand(photos: Path) -> None:
    picture(0, 0, width=20, height=10).save(photos / "train/cat/0.png")
    Image.new("L", (5, 5), 200).save(photos / "test/dog/0.png")
    grey = load(photos, picture_size=6, picture_channels=1)
    known = made(photos, picture_size=6, picture_channels=1).INFO.image_shape
    assert ((1, 6, 6), (1, 6, 6)) == (known, grey.train_images.shape[1:])
    coloured = load(photos, picture_size=6, picture_channels=3)
    assert (12, 3, 6, 6) == coloured.train_images.shape
    assert coloured.digest != grey.digest


def test_hidden_files_are_ignored_and_a_class_may_lack_test_pictures(photos: Path) -> None:
    (photos / ".DS_Store").touch()
    (photos / "train/.DS_Store").touch()
    (photos / "train/cat/Thumbs.db").touch()
    for path in (photos / "test/dog").iterdir():
        path.unlink()
    assert (12, 2) == (len(load(photos).train_labels), len(load(photos).test_labels))


def test_a_validation_split_can_be_held_out(photos: Path) -> None:
    held_out = load_held_out("photos", "given", 0.5, folder=photos.parent / "data", source=made(photos))
    assert ([3, 3], [3, 3]) == (held_out.train_labels.bincount().tolist(), held_out.test_labels.bincount().tolist())


# Bad input


def deep(path: Path) -> None:
    Image.fromarray(np.zeros((6, 8), dtype=np.uint16)).save(path)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (shutil.rmtree, r"there is no folder \S+train; pictures are in train/CLASS and test/CLASS"),
        (lambda path: shutil.rmtree(path / "test"), r"there is no folder \S+test"),
        (lambda path: (path / "train/owl").mkdir(), "the class owl has a folder in train and none in test"),
        (lambda path: shutil.rmtree(path / "train/dog"), "the class dog has a folder in test and none in train"),
        (
            lambda path: [(path / half / "owl").mkdir() for half in NUMBER],
            "class 2, owl, has no training examples; add some",
        ),
        (lambda path: [each.unlink() for each in path.glob("test/*/*")], "test has no pictures"),
        (lambda path: [shutil.rmtree(each) for each in path.glob("*/*")], "train has no folders"),
        (lambda path: (path / "train/cat/notes.txt").touch(), r"cat/notes.txt is no picture \(.bmp, .jpeg"),
        (lambda path: (path / "train/cat/more").mkdir(), "cat/more is no picture"),
        (lambda path: (path / "train/readme.txt").touch(), "the class readme.txt has a folder in train and none"),
        (lambda path: (path / "train/cat/0.png").write_bytes(b"no"), "cat/0.png cannot be read as a picture"),
        (
            lambda path: (path / "train/dog/5.png").write_bytes((path / "train/dog/4.png").read_bytes()[:45]),
            "dog/5.png cannot be read as a picture",
        ),
        (
            lambda path: picture(0, 0, width=9).save(path / "test/dog/0.png"),
            "dog/0.png is 9x6 pixels, and others are 8x6; set picture_size to what all are resized to",
        ),
        (
            lambda path: Image.new("L", (8, 6)).save(path / "test/dog/0.png"),
            "dog/0.png is grey, and others are in colour; set picture_channels to 1 or 3",
        ),
        (lambda path: deep(path / "train/dog/0.png"), "dog/0.png has more than 8 bits a pixel; convert it"),
        (
            lambda path: [(path / half / "cat").rename(path / half / "c++") for half in NUMBER],
            r"'c\+\+' cannot name a class",
        ),
    ],
)
def test_wrong_folders_are_one_line(photos: Path, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(photos)
    with pytest.raises(DataError, match=expected) as caught:
        load(photos)
    assert "\n" not in str(caught.value)
    assert not list((photos.parent).glob("data/decoded/*"))


def test_a_folder_is_named_by_a_path() -> None:
    with pytest.raises(SuiteError, match="unknown dataset 'photos'"):
        find("dataset", "photos")
