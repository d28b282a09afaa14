from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms import Resize

from fedbench.datasets import ham10000, ham10000_files, load_dataset
from fedbench.datasets.ham10000 import split_by_image, split_by_lesion
from fedbench.datasets.ham10000_files import read_copy
from fedbench.datasets.validation import load_held_out
from fedbench.runs.clients import clients_of
from fedbench.runs.data import DataSource, digest_of
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.util.errors import DataError

FIRST = "ISIC_0029271"


@pytest.fixture
def data(small_ham: Path) -> Path:
    """A data folder with the small copy, as if unpacked by hand."""
    return small_ham.parent


def edit_table(data: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = data / "skin" / "HAM10000_metadata.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


# --- what is loaded -----------------------------------------------------------------------------------------------


def test_the_classes_are_the_studys_in_its_order(data: Path) -> None:
    dataset = load_dataset("ham10000", folder=data)
    expected = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")
    assert expected == dataset.class_names
    assert [8] * len(expected) == torch.bincount(dataset.train_labels).tolist()
    assert [2] * len(expected) == torch.bincount(dataset.test_labels).tolist()


def test_an_image_is_resized_as_torchvision_resizes_it(data: Path) -> None:
    table, images = read_copy(data)
    train, _ = split_by_lesion(table)
    with Image.open(images[table.image_id[train[0]]]) as image:
        expected = np.asarray(Resize((32, 32))(image.convert("RGB"))).transpose(2, 0, 1)
    assert np.array_equal(expected, load_dataset("ham10000", folder=data).train_images[0].numpy())


def test_images_and_labels_stay_together(data: Path) -> None:
    table, images = read_copy(data)
    dataset = load_dataset("ham10000", "image", data)
    pixels = ham10000_files.decode_images(images)
    labels = table.dx.map(ham10000.CLASSES.index)
    label_of = {image.tobytes(): label for image, label in zip(pixels, labels, strict=True)}
    assert [label_of[image.numpy().tobytes()] for image in dataset.test_images] == dataset.test_labels.tolist()


def test_the_order_of_the_tables_rows_does_not_matter(data: Path) -> None:
    before = load_dataset("ham10000", folder=data).digest
    edit_table(data, lambda lines: lines[:1] + lines[:0:-1])
    assert before == load_dataset("ham10000", folder=data).digest


def test_images_in_folders_named_in_lower_case_are_found(data: Path) -> None:
    before = load_dataset("ham10000", folder=data).digest
    for part in ("1", "2"):
        (data / "skin" / f"HAM10000_images_part_{part}").rename(data / "skin" / f"ham10000_images_part_{part}")
    assert before == load_dataset("ham10000", folder=data).digest


def test_images_are_found_by_one_rule_for_names_in_any_folder(data: Path) -> None:
    before, skin = load_dataset("ham10000", folder=data).digest, data / "skin"
    first, second = skin / "HAM10000_images_part_1", skin / "HAM10000_images_part_2"
    shutil.copy(first_image(data), skin / "ISIC_0034524.jpg")  # as of the challenge's test set
    shutil.copy(first_image(data), skin / "._ISIC_0034525.jpg")
    (first / first.name).mkdir()
    for number, path in enumerate(sorted(first.glob("*.jpg"))):
        name = (path.name, path.name.upper(), path.stem.replace("_", "-") + ".jpeg", path.name.lower())[number % 4]
        path.rename(first / first.name / name)
    for path in second.iterdir():
        path.rename(skin / path.name)
    second.rmdir()
    second.symlink_to(skin)  # which leads back
    shutil.rmtree(data / "decoded")
    assert before == load_dataset("ham10000", folder=data).digest
    ham10000.fetch(data, None)
    ham10000.verify(data)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [lambda line: f"{line},", lambda line: line.replace(",", ";")])
def test_a_table_from_a_spreadsheet_is_read(data: Path, change: Callable[[str], str]) -> None:
    before = load_dataset("ham10000", folder=data).digest
    is_longer = change("") == ","
    edit_table(data, lambda lines: [lines[0] if is_longer else change(lines[0]), *map(change, lines[1:])])
    assert before == load_dataset("ham10000", folder=data).digest


# --- splits -------------------------------------------------------------------------------------------------------


def table_of(*lesions: tuple[str, int, int]) -> pd.DataFrame:
    """A table of (lesion, label, number of images)."""
    rows = [(lesion, ham10000.CLASSES[label]) for lesion, label, count in lesions for _ in range(count)]
    ids = [f"ISIC_{number:07d}" for number in range(len(rows))]
    return pd.DataFrame(rows, columns=["lesion_id", "dx"]).assign(image_id=ids)


def test_no_lesion_is_on_both_sides_of_the_lesion_split() -> None:
    table = table_of(*((f"L{number}", number % 7, 1 + number % 3) for number in range(300)))
    train, test = split_by_lesion(table)
    assert not set(table.lesion_id[train]) & set(table.lesion_id[test])
    assert list(range(len(table))) == sorted(train + test)
    assert {dx: round(0.2 * n) for dx, n in Counter(table.dx).items()} == Counter(table.dx[test])


def test_a_lesion_larger_than_a_fifth_of_its_class_stays_in_training() -> None:
    table = table_of(("large", 0, 6), ("a", 0, 1), ("b", 0, 1), ("c", 0, 1), ("d", 0, 1))
    _, test = split_by_lesion(table)
    assert round(0.2 * len(table)) == len(test)
    assert "large" not in set(table.lesion_id[test])


@pytest.mark.parametrize("split", [split_by_lesion, split_by_image])
def test_the_training_order_is_shuffled_and_fixed(split: Callable[..., Any]) -> None:
    table = table_of(*((f"L{number}", number // 100, 1) for number in range(700)))
    train, test = split(table)
    assert (train, test) == split(table)
    first = Counter(table.dx[train[:140]])
    assert (7, True) == (len(first), min(first.values()) >= 5)  # all seven classes are in the first block


def test_the_image_split_takes_a_fifth_of_all_images() -> None:
    table = table_of(*((f"L{number}", 0, 1) for number in range(10_015)))
    train, test = split_by_image(table)
    assert (8_012, 2_003) == (len(train), len(test))
    assert list(range(len(table))) == sorted(train + test)


# --- metadata -----------------------------------------------------------------------------------------------------


def in_two_places(data: Path) -> None:
    """Every third row of the table is an arm, the others are backs."""
    edit_table(
        data, lambda lines: [line.replace("back", "arm") if n % 3 == 0 else line for n, line in enumerate(lines)]
    )


def places(images: torch.Tensor, data: Path) -> list[str]:
    """Where in the table each image is from."""
    table, paths = read_copy(data)
    pixels = ham10000_files.decode_images(paths)
    place = {image.tobytes(): place for image, place in zip(pixels, table.localization, strict=True)}
    return [place[image.numpy().tobytes()] for image in images]


@pytest.mark.parametrize("split", ["lesion", "image"])
def test_metadata_stays_with_its_images_in_the_validation_split_too(data: Path, split: str) -> None:
    before = load_dataset("ham10000", split, data).digest
    in_two_places(data)
    whole, held_out = load_dataset("ham10000", split, data), load_held_out("ham10000", split, 0.2, data)
    assert before == whole.digest  # which does not cover the metadata
    for dataset in (whole, held_out):
        assert ["lesion_id", "dx", "dx_type", "age", "sex", "localization"] == list(dataset.train_columns)
        assert {"arm", "back"} == set(dataset.train_columns["localization"])
        assert places(dataset.train_images, data) == dataset.train_columns["localization"].tolist()
        assert {""} == set(dataset.train_columns["age"])
        labels = [dataset.class_names.index(name) for name in dataset.train_columns["dx"]]
        assert labels == dataset.train_labels.tolist()


def test_clients_can_be_places_on_the_body(data: Path) -> None:
    in_two_places(data)
    dataset = load_dataset("ham10000", folder=data)
    fields = {"dataset": "ham10000", "model": "simple-cnn-ham", "partition": "by-column"}
    spec = CellSpec(**fields, partition_column="localization", num_clients=2)
    run = RunSpec(suite="s", scenario="a", cell="a", spec=spec, seed=0)
    backs, arms = clients_of(run, dataset, torch.device("cpu"))
    assert 56 == len(backs) + len(arms)
    assert len(backs) > len(arms) > 0
    assert dataset.train_labels[dataset.train_columns["localization"] == "arm"].tolist() == arms.labels.tolist()


def test_a_run_by_a_column_has_the_column_in_its_identity_and_others_do_not(data: Path) -> None:
    column = {"partition": "by-column", "partition_column": "localization", "num_clients": 2}
    base = {"dataset": "ham10000", "model": "simple-cnn-ham"}

    def digests(**fields: Any) -> str:
        return DataSource(data).digest(CellSpec(**base, **fields))

    def of_study() -> str:
        return digest_of(load_held_out("ham10000", "lesion", 0.2, data), CellSpec(**base, **column))

    study = of_study()
    plain, by_place, by_sex = digests(), digests(**column), digests(**(column | {"partition_column": "sex"}))
    assert 3 == len({plain, by_place, by_sex})
    assert load_dataset("ham10000", folder=data).digest == plain
    in_two_places(data)
    assert (plain, by_sex) == (digests(), digests(**(column | {"partition_column": "sex"})))
    assert by_place != digests(**column)
    assert study != of_study()


# --- the cache ----------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each time that all images are decoded."""
    times: list[int] = []
    original = ham10000_files.decode_images

    def counted(images: Any) -> Any:
        times.append(len(images))
        return original(images)

    monkeypatch.setattr(ham10000_files, "decode_images", counted)
    return times


def test_images_are_decoded_once(data: Path, decoded: list[int]) -> None:
    digests = {load_dataset("ham10000", folder=data).digest for _ in range(3)}
    assert [70] == decoded
    assert len(digests) == 1


def test_of_several_loads_at_once_one_decodes(data: Path, decoded: list[int]) -> None:
    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(lambda _: load_dataset("ham10000", folder=data).digest, range(4)))
    assert [70] == decoded
    assert len(digests) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],  # a bit of a pixel
        lambda content: content[:0],
        lambda content: content[:-1],
    ],
)
def test_a_damaged_cache_is_rebuilt(data: Path, decoded: list[int], damage: Callable[[bytes], bytes]) -> None:
    before = load_dataset("ham10000", folder=data).digest
    (cache,) = (data / "decoded").glob("ham10000-32-*.npz")
    cache.write_bytes(damage(cache.read_bytes()))
    for _ in range(2):
        assert before == load_dataset("ham10000", folder=data).digest
    assert [70, 70] == decoded


def test_a_cache_of_another_image_is_not_used(data: Path, decoded: list[int]) -> None:
    before = load_dataset("ham10000", folder=data).digest
    Image.new("RGB", (60, 45), "red").save(data / "skin" / "HAM10000_images_part_1" / f"{FIRST}.jpg")
    assert before != load_dataset("ham10000", folder=data).digest
    assert [70, 70] == decoded


def test_a_cache_that_cannot_be_written_is_not_needed(
    data: Path, decoded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "decoded").write_text("a file where the folder should be")
    digests = {load_dataset("ham10000", folder=data).digest for _ in range(2)}
    assert len(digests) == 1
    assert [70, 70] == decoded
    assert "cannot be written" in capsys.readouterr().err


# --- what is refused ----------------------------------------------------------------------------------------------


def refused(data: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset("ham10000", folder=data)
    message = str(caught.value)
    assert "\n" not in message
    return message


def first_image(data: Path) -> Path:
    return data / "skin" / "HAM10000_images_part_1" / f"{FIRST}.jpg"


@pytest.mark.parametrize("keep", [0, 700])
@pytest.mark.parametrize("action", [refused, ham10000.verify, lambda data: ham10000.fetch(data, None)])
def test_a_truncated_image_is_named(data: Path, keep: int, action: Callable[[Path], Any]) -> None:
    path = first_image(data)
    path.write_bytes(path.read_bytes()[:keep])
    if action is refused:
        assert refused(data).startswith(f"{path} cannot be read as a picture (")
    else:
        with pytest.raises(DataError, match=rf"{FIRST}.jpg cannot be read .*: fedbench data fetch ham10000$"):
            action(data)
    assert not list(data.glob("decoded/*"))


def test_a_file_that_is_no_jpeg_is_named(data: Path) -> None:
    Image.new("RGB", (60, 45)).save(first_image(data), format="PNG")
    assert f"{FIRST}.jpg cannot be read as a picture" in refused(data)


@pytest.mark.parametrize("limit", [(ham10000_files, "MOST_PIXELS", 2000), (Image, "MAX_IMAGE_PIXELS", 1000)])
def test_an_image_of_absurd_size_is_refused(data: Path, limit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*limit)
    assert "ISIC_" in refused(data)


def test_a_row_without_image_is_named(data: Path) -> None:
    first_image(data).unlink()
    expected = f"{data / 'skin'} lacks 1 of 70 images (first: {FIRST}.jpg): run: fedbench data fetch ham10000"
    assert expected == refused(data)


def test_an_image_without_row_is_named(data: Path) -> None:
    shutil.copy(first_image(data), data / "skin" / "HAM10000_images_part_2" / "ISIC_0000001.jpg")
    assert "ISIC_0000001.jpg has no row in HAM10000_metadata.csv" in refused(data)


def test_a_table_that_lacks_rows_says_how_many(data: Path) -> None:
    edit_table(data, lambda lines: lines[:-3])
    assert "has 67 rows instead of 70 (3 are missing)" in refused(data)


def test_a_missing_table_is_named(data: Path) -> None:
    (data / "skin" / "HAM10000_metadata.csv").unlink()
    assert "HAM10000_metadata.csv is missing: run: fedbench data fetch ham10000" in refused(data)
    assert not ham10000.is_present(data)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: [*lines[:4], lines[4].replace(",nv,", ",wart,"), *lines[5:]], "line 5: unknown dx 'wart'"),
        (lambda lines: [*lines[:4], lines[4].replace("ISIC_", "ISIC-"), *lines[5:]], "line 5: image_id is 'ISIC-"),
        (
            lambda lines: [*lines[:4], ",".join(["", *lines[4].split(",")[1:]]), *lines[5:]],
            "line 5: lesion_id is empty",
        ),
        (lambda lines: [*lines, lines[-1]], "more than one row for image_id ISIC_0029340"),
        (
            lambda lines: [lines[0].replace("dx,", "diagnosis,"), *lines[1:]],
            "has no column dx: it has lesion_id, image_id",
        ),
        (lambda lines: lines[:1], "has 0 rows instead of 70"),
        (lambda lines: lines[:0], "is not a CSV table (No columns to parse from file)"),
        (lambda lines: [*lines[:4], '"' + lines[4], *lines[5:]], "HAM10000_metadata.csv"),
    ],
)
def test_a_wrong_table_is_refused_by_line_or_column(data: Path, change: Callable[..., Any], expected: str) -> None:
    edit_table(data, change)
    assert expected in refused(data)


def test_a_table_that_is_not_text_is_refused(data: Path) -> None:
    (data / "skin" / "HAM10000_metadata.csv").write_bytes(bytes(range(256)) * 10)
    assert "HAM10000_metadata.csv" in refused(data)


def test_a_good_copy_without_manifest_is_verified_by_decoding(data: Path, decoded: list[int]) -> None:
    ham10000.verify(data)
    assert ham10000.is_present(data)
    assert [70] == decoded


def test_verify_without_manifest_sees_a_damaged_image_behind_a_good_cache(data: Path) -> None:
    load_dataset("ham10000", folder=data)
    path = first_image(data)
    path.write_bytes(path.read_bytes()[:300] + bytes(path.stat().st_size - 300))
    with pytest.raises(DataError, match=rf"{FIRST}.jpg cannot be read as a picture"):
        ham10000.verify(data)
