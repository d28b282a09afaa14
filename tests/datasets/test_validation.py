"""The validation split: what is held out of the training data, and that the test set is not read."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fedbench.datasets import (
    DATASETS,
    Dataset,
    DatasetInfo,
    TrainingData,
    dataset_info,
    dataset_module,
    ham10000,
    ham10000_files,
    load_dataset,
    mnist,
    mnist_5k,
)
from fedbench.datasets.content import content_digest
from fedbench.datasets.ham10000_files import image_path, read_copy
from fedbench.datasets.validation import load_held_out
from fedbench.util.errors import DataError

IDX = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


def counts(labels: torch.Tensor) -> list[int]:
    return torch.bincount(labels).tolist()


def tensors_of(dataset: Dataset) -> tuple[torch.Tensor, ...]:
    return dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels


# --- a user's own dataset -----------------------------------------------------------------------------------------


class Untouchable:
    """Stands where test tensors are, and fails on any use."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test set was asked for {name}")


def numbered_images(count: int) -> NDArray[np.uint8]:
    """(count, 1, 1, 2): the image's number in two bytes."""
    return np.arange(count, dtype=">u2").view(np.uint8).reshape(count, 1, 1, 2)


def numbers(images: torch.Tensor) -> list[int]:
    """What `numbered_images` numbered."""
    return images.numpy().view(">u2").ravel().tolist()


MakeOwn = Callable[..., str]


def giving(value: object) -> Callable[..., object]:
    return lambda *_: value


@pytest.fixture
def make_own(monkeypatch: pytest.MonkeyPatch) -> MakeOwn:
    """Put a dataset with these training labels (and groups) into the table; returns its name."""

    def make(labels: Sequence[int], groups: Sequence[str] | None = None, **more: Any) -> str:
        images, label_array = numbered_images(len(labels)), np.array(labels, dtype=np.int64)
        names = tuple("abcdefg"[: max(labels) + 1])
        info = DatasetInfo((1, 1, 2), len(names), {"plain": (len(labels), 1)}, "CC0", "nobody", "https://example.org")
        training = TrainingData(images, label_array, (0.5,), (0.25,), names, groups)
        parts = {"INFO": info, "load_training": giving(training)} | more
        module = SimpleNamespace(**parts)
        monkeypatch.setitem(sys.modules, "fedbench.datasets.own", module)
        monkeypatch.setitem(DATASETS, "own", "fedbench.datasets.own")
        return "own"

    return make


# --- what is held out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fraction", "held_out"), [(0.2, [2, 1, 10]), (0.5, [5, 2, 25]), (0.9, [9, 3, 45])])
def test_of_each_class_the_fraction_is_held_out(make_own: MakeOwn, fraction: float, held_out: list[int]) -> None:
    dataset = load_held_out(make_own([0] * 10 + [1] * 4 + [2] * 50), "plain", fraction)
    assert held_out == counts(dataset.test_labels)
    assert [10 - held_out[0], 4 - held_out[1], 50 - held_out[2]] == counts(dataset.train_labels)


@pytest.mark.parametrize(("fraction", "held_out"), [(0.001, [1, 1]), (0.999, [1, 6])])
def test_of_each_class_at_least_one_is_held_out_and_one_remains(
    make_own: MakeOwn, fraction: float, held_out: list[int]
) -> None:
    dataset = load_held_out(make_own([0, 1, 1, 0, 1, 1, 1, 1, 1]), "plain", fraction)
    assert held_out == counts(dataset.test_labels)


def test_each_example_is_on_one_side_with_its_label_and_both_sides_keep_the_order(make_own: MakeOwn) -> None:
    labels = [number * number % 7 for number in range(1000)]
    dataset = load_held_out(make_own(labels), "plain", 0.3)
    remaining, held_out = numbers(dataset.train_images), numbers(dataset.test_images)
    assert list(range(1000)) == sorted(remaining + held_out)
    assert (sorted(remaining), sorted(held_out)) == (remaining, held_out)
    assert [labels[number] for number in remaining] == dataset.train_labels.tolist()
    assert [labels[number] for number in held_out] == dataset.test_labels.tolist()


def test_who_is_held_out_does_not_depend_on_the_order_of_the_examples(make_own: MakeOwn) -> None:
    before = load_held_out(make_own([0] * 100), "plain", 0.2)
    name = make_own([0] * 100)
    backwards = numbered_images(100)[::-1]
    training = TrainingData(backwards, np.zeros(100, dtype=np.int64), (0.5,), (0.25,), ("a",))
    sys.modules["fedbench.datasets.own"].load_training = giving(training)  # type: ignore[attr-defined]
    assert numbers(before.test_images) == numbers(load_held_out(name, "plain", 0.2).test_images)[::-1]


def test_a_block_of_consecutive_examples_keeps_its_classes_about_balanced() -> None:
    labels = load_held_out("mnist-5k", "stratified", 0.2).train_labels
    per_class = torch.stack([torch.bincount(block, minlength=10) for block in labels[:3000].split(300)])  # (10, 10)
    deviation = (per_class - 30).double().square().mean().sqrt().item()
    random_deviation = math.sqrt(300 * 0.1 * 0.9)  # 5.2, of 300 independent draws
    assert deviation < 0.6 * random_deviation


def test_the_result_describes_itself(make_own: MakeOwn) -> None:
    dataset = load_held_out(make_own([0, 1] * 10), "plain", 0.25)
    assert ("own", "plain validation 0.25", "https://example.org") == (dataset.name, dataset.split, dataset.source)
    assert ((0.5,), (0.25,), ("a", "b")) == (dataset.mean, dataset.std, dataset.class_names)
    assert (torch.uint8, torch.int64) == (dataset.test_images.dtype, dataset.test_labels.dtype)
    assert content_digest(tensors_of(dataset), (0.5,), (0.25,), ("a", "b")) == dataset.digest


# --- groups -------------------------------------------------------------------------------------------------------


def test_no_group_is_on_both_sides_and_the_class_is_held_out_in_its_share(make_own: MakeOwn) -> None:
    labels = [number % 7 for number in range(700)]
    groups = [f"{n % 7} {min(n // 7, 60 + n // 7 % 20)}" for n in range(700)]  # of each class 60 singles and 20 pairs
    dataset = load_held_out(make_own(labels, groups), "plain", 0.2)
    of_remaining, of_held_out = ({groups[n] for n in numbers(part)} for part in tensors_of(dataset)[::2])
    assert not of_remaining & of_held_out
    assert [20] * 7 == counts(dataset.test_labels)


def test_if_no_group_fits_one_of_the_smallest_is_held_out(make_own: MakeOwn) -> None:
    dataset = load_held_out(make_own([0] * 9, ["large"] * 5 + ["small"] * 4), "plain", 0.1)
    assert [5, 6, 7, 8] == numbers(dataset.test_images)


def test_a_group_with_examples_of_two_classes_stays_together(make_own: MakeOwn) -> None:
    labels, groups = [0, 1] * 20, [f"pair {number // 4}" for number in range(20)] + list("abcdefghijklmnopqrst")
    dataset = load_held_out(make_own(labels, groups), "plain", 0.5)
    of_remaining, of_held_out = ({groups[n] for n in numbers(part)} for part in tensors_of(dataset)[::2])
    assert not of_remaining & of_held_out


def test_a_class_of_one_example_cannot_be_divided(make_own: MakeOwn) -> None:
    expected = (
        "dataset own, split plain: class b cannot be split into training and validation examples, it has 1 example: "
        "add examples to this class or leave it out"
    )
    with pytest.raises(DataError) as caught:
        load_held_out(make_own([0, 0, 1, 0]), "plain", 0.5)
    assert expected == str(caught.value)


def test_a_class_of_one_group_cannot_be_divided(make_own: MakeOwn) -> None:
    name = make_own([0, 0, 1, 1, 1], ["x", "y", "z", "z", "z"])
    with pytest.raises(DataError, match=r"class b cannot be split .* it has 3 examples that must stay together: add"):
        load_held_out(name, "plain", 0.5)


@pytest.mark.parametrize("split", ["lesion", "image"])
def test_no_lesion_is_on_both_sides_of_a_small_ham10000(split: str, small_ham: Path) -> None:
    assert_no_lesion_is_on_both_sides(small_ham.parent, split)


def assert_no_lesion_is_on_both_sides(data: Path, split: str) -> Dataset:
    table, images = read_copy(data)
    pixels = ham10000_files.load_images(data / "skin", images)
    lesion_of = {image.tobytes(): lesion for image, lesion in zip(pixels, table.lesion_id, strict=True)}
    dataset = load_held_out("ham10000", split, 0.2, data)
    remaining, held_out = (
        [lesion_of[image.numpy().tobytes()] for image in part] for part in (dataset.train_images, dataset.test_images)
    )
    assert not set(remaining) & set(held_out)
    expected = dataset_info("ham10000").sizes[split][0]
    assert expected == len(remaining) + len(held_out)
    return dataset


# --- fixed for good -----------------------------------------------------------------------------------------------


def test_the_validation_split_of_mnist_5k_is_fixed() -> None:
    expected = "7a25b4fa0f7478973bdea8ba207ab7f335b87f064d5f4cd830cf5fae2936deb4"
    datasets = [load_held_out("mnist-5k", "stratified", 0.2) for _ in range(2)]
    assert [expected, expected] == [dataset.digest for dataset in datasets]
    assert ([320] * 10, [80] * 10) == (counts(datasets[0].train_labels), counts(datasets[0].test_labels))


def test_another_fraction_has_another_digest() -> None:
    datasets = [load_held_out("mnist-5k", "stratified", fraction) for fraction in (0.1, 0.2, 0.2025)]
    expected_different = len(datasets) + 1
    assert expected_different == len({load_dataset("mnist-5k").digest, *(dataset.digest for dataset in datasets)})


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 20, math.nan])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must be between 0 and 1, not"):
        load_held_out("mnist-5k", "stratified", fraction)


def test_an_unknown_split_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"mnist-5k has no split 'standard': choose from stratified"):
        load_held_out("mnist-5k", "standard", 0.2)


def test_training_data_of_another_size_than_the_table_says_is_refused(make_own: MakeOwn) -> None:
    info = DatasetInfo((1, 1, 2), 1, {"plain": (11, 1)}, "CC0", "nobody", "https://example.org")
    with pytest.raises(
        DataError, match=r"own, split plain: 10 training examples instead of 11: run: fedbench data ver"
    ):
        load_held_out(make_own([0] * 10, INFO=info), "plain", 0.2)


# --- the test set is left alone -----------------------------------------------------------------------------------


def test_without_load_training_the_whole_is_loaded_and_its_test_set_never_touched(make_own: MakeOwn) -> None:
    expected = load_held_out(make_own([0, 1] * 10), "plain", 0.2).digest
    images, labels = torch.from_numpy(numbered_images(20)), torch.tensor([0, 1] * 10)
    untouchable: Any = Untouchable()
    names = ("a", "b")
    whole = Dataset(
        "own", "plain", images, labels, untouchable, untouchable, (0.5,), (0.25,), names, "digest", "a citation"
    )
    name = make_own([0, 1] * 10, load=giving(whole))
    del sys.modules["fedbench.datasets.own"].load_training
    dataset = load_held_out(name, "plain", 0.2)
    assert (expected, "a citation") == (dataset.digest, dataset.source)


def test_training_data_is_the_training_part_of_what_is_loaded(small_mnist: Any, small_ham: Path) -> None:
    for name, split, folder in (
        ("mnist-5k", "stratified", small_ham),
        ("mnist", "standard", small_mnist.source),
        ("ham10000", "lesion", small_ham.parent),
        ("ham10000", "image", small_ham.parent),
    ):
        training, whole = dataset_module(name).load_training(folder, split), load_dataset(name, split, folder)
        assert np.array_equal(whole.train_images, training.images)
        assert np.array_equal(whole.train_labels, training.labels)
        assert (whole.mean, whole.std, whole.class_names) == (training.mean, training.std, training.class_names)


def test_mnist_is_divided_without_the_files_of_the_test_set(small_mnist: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    mnist.MNIST.fetch(data, small_mnist.source)
    expected = load_held_out("mnist", "standard", 0.2, data)
    assert ([16] * 10, [4] * 10) == (counts(expected.train_labels), counts(expected.test_labels))
    test_files = list((data / "MNIST" / "raw").glob("t10k-*"))
    for change in (lambda path: path.write_bytes(b"poison"), Path.unlink):
        for path in test_files:
            change(path)
        assert expected.digest == load_held_out("mnist", "standard", 0.2, data).digest
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is (damaged|missing)"):
            load_dataset("mnist", folder=data)


def test_a_damaged_training_file_is_named(small_mnist: Any, tmp_path: Path) -> None:
    mnist.MNIST.fetch(tmp_path / "data", small_mnist.source)
    (tmp_path / "data" / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(b"poison")
    with pytest.raises(
        DataError, match="train-labels-idx1-ubyte is damaged: delete it and run: fedbench data fetch mn"
    ):
        load_held_out("mnist", "standard", 0.2, tmp_path / "data")


def test_other_test_images_of_mnist_5k_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, whole = load_held_out("mnist-5k", "stratified", 0.2).digest, load_dataset("mnist-5k").digest
    table = mnist_5k._read_table()
    table.reshape(10, 500, 785)[:, 400:] = 9  # (class, image, pixels and label)
    monkeypatch.setattr(mnist_5k, "_read_table", lambda: table)
    assert expected == load_held_out("mnist-5k", "stratified", 0.2).digest
    assert whole != load_dataset("mnist-5k").digest


@pytest.mark.parametrize("split", ["lesion", "image"])
def test_other_test_images_of_ham10000_change_nothing(split: str, small_ham: Path) -> None:
    data = small_ham.parent
    expected, whole = load_held_out("ham10000", split, 0.2, data).digest, load_dataset("ham10000", split, data).digest
    table, _ = read_copy(data)
    for image_id in table.image_id[ham10000.SPLITS[split](table)[1]]:
        Image.new("RGB", (64, 64), "white").save(image_path(small_ham, image_id))
    assert expected == load_held_out("ham10000", split, 0.2, data).digest
    assert whole != load_dataset("ham10000", split, data).digest


# --- the real sets ------------------------------------------------------------------------------------------------


@pytest.mark.mirror
@pytest.mark.parametrize("name", IDX)
def test_the_real_training_files_alone_are_enough(name: str, real_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / IDX[name] / "raw"
    raw.mkdir(parents=True)
    for file in (real_data / IDX[name] / "raw").glob("train-*"):
        (raw / file.name).symlink_to(file)
    dataset = load_held_out(name, "standard", 0.2, tmp_path)
    whole = load_dataset(name, folder=real_data)
    assert [round(0.2 * count) for count in counts(whole.train_labels)] == counts(dataset.test_labels)
    assert (48_000, 12_000) == (len(dataset.train_labels), len(dataset.test_labels))


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("split", "held_out"),
    [("lesion", [1073, 178, 176, 82, 52, 23, 18]), ("image", [1075, 175, 172, 86, 52, 24, 19])],
)
def test_no_lesion_is_on_both_sides_of_the_real_ham10000(split: str, held_out: list[int], real_data: Path) -> None:
    dataset = assert_no_lesion_is_on_both_sides(real_data, split)
    assert held_out == counts(dataset.test_labels)
