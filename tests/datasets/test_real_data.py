"""The real sets, as ``FEDBENCH_MIRROR`` has them; skipped where that is not set."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from fedbench.datasets import dataset_info, dataset_module, dataset_statuses, ham10000_files, load_dataset
from fedbench.datasets.ham10000 import split_by_image, split_by_lesion
from fedbench.datasets.ham10000_files import read_copy

pytestmark = pytest.mark.mirror

FETCHED = ("mnist", "fashion-mnist", "ham10000")
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
HAM_IMAGES = [6705, 1113, 1099, 514, 327, 142, 115]
HAM_LESION_TEST = [1341, 223, 220, 103, 65, 28, 23]
HAM_IMAGE_TEST = [1331, 237, 239, 86, 67, 23, 20]


def counts(labels: torch.Tensor) -> list[int]:
    return torch.bincount(labels).tolist()


def pixel_statistics(images: torch.Tensor) -> tuple[list[float], list[float]]:
    per_channel = images.transpose(0, 1).flatten(1).double() / 255  # (C, N * H * W)
    return per_channel.mean(1).tolist(), per_channel.std(1).tolist()


def test_mnist_is_the_published_set(real_data: Path) -> None:
    dataset = load_dataset("mnist", folder=real_data)
    assert [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] == dataset.train_labels[:10].tolist()
    assert (MNIST_TRAIN, MNIST_TEST) == (counts(dataset.train_labels), counts(dataset.test_labels))
    assert "57dba8bb90156b10d9ee0d89a926e88cf9797b69ae33a024b065e1ada5dfc408" == dataset.digest


def test_fashion_mnist_is_the_published_set(real_data: Path) -> None:
    dataset = load_dataset("fashion-mnist", folder=real_data)
    assert [9, 0, 0, 3, 0, 2, 7, 2, 5, 5] == dataset.train_labels[:10].tolist()
    assert ([6000] * 10, [1000] * 10) == (counts(dataset.train_labels), counts(dataset.test_labels))
    assert "0ecb519e4a2295a5c320c8ea9869946c5fd51a5228b8b434617ab978215edd05" == dataset.digest


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mean_and_standard_deviation_are_those_of_the_training_pixels(name: str, real_data: Path) -> None:
    dataset = load_dataset(name, folder=real_data)
    mean, std = pixel_statistics(dataset.train_images)
    assert pytest.approx(dataset.mean, abs=5e-5) == tuple(mean)
    assert pytest.approx(dataset.std, abs=5e-5) == tuple(std)


def test_mnist_5k_is_part_of_mnist(real_data: Path) -> None:
    small, whole = load_dataset("mnist-5k"), load_dataset("mnist", folder=real_data)
    label_of = {
        image.numpy().tobytes(): label
        for image, label in zip(whole.train_images, whole.train_labels.tolist(), strict=True)
    }
    found = [label_of[image.numpy().tobytes()] for image in torch.cat([small.train_images, small.test_images])]
    assert found == torch.cat([small.train_labels, small.test_labels]).tolist()


@pytest.mark.parametrize(("split", "in_test"), [("lesion", HAM_LESION_TEST), ("image", HAM_IMAGE_TEST)])
def test_ham10000_has_the_published_number_of_images_of_each_class(
    split: str, in_test: list[int], real_data: Path
) -> None:
    dataset = load_dataset("ham10000", split, real_data)
    assert in_test == counts(dataset.test_labels)
    assert HAM_IMAGES == counts(torch.cat([dataset.train_labels, dataset.test_labels]))
    assert (8_012, 2_003) == (len(dataset.train_labels), len(dataset.test_labels))


def test_ham10000s_mean_and_deviation_are_near_those_of_its_pixels(real_data: Path) -> None:
    # The published values are of the full-size pictures: 32x32 pixels keep the mean and lose some deviation.
    dataset = load_dataset("ham10000", folder=real_data)
    mean, std = pixel_statistics(torch.cat([dataset.train_images, dataset.test_images]))
    assert pytest.approx(dataset.mean, abs=2e-3) == tuple(mean)
    assert pytest.approx(dataset.std, abs=6e-3) == tuple(std)


def test_no_lesion_is_on_both_sides_of_the_default_split_but_many_are_in_the_other(real_data: Path) -> None:
    table, _ = read_copy(real_data)
    shared = []
    for split in (split_by_lesion, split_by_image):
        train, test = split(table)
        shared.append(len(set(table.lesion_id[train]) & set(table.lesion_id[test])))
    assert dataset_info("ham10000").default_split == "lesion"
    assert shared[0] == 0
    assert shared[1] > 500


def test_consecutive_blocks_of_ham10000s_training_images_have_the_sets_mixture(real_data: Path) -> None:
    labels = load_dataset("ham10000", folder=real_data).train_labels
    shares = [block.eq(0).double().mean().item() for block in labels.split(400)[:20]]
    assert pytest.approx([0.67] * 20, abs=0.1) == shares


def test_the_second_load_of_ham10000_takes_less_than_a_second(real_data: Path) -> None:
    load_dataset("ham10000", folder=real_data)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        load_dataset("ham10000", folder=real_data)
        times.append(time.perf_counter() - start)
    assert min(times) < 1


def test_ham10000s_cache_holds_what_decoding_gives(real_data: Path) -> None:
    skin = real_data / "skin"
    _, images = read_copy(real_data)
    some = dict(list(images.items())[::97])
    cached = ham10000_files.load_images(skin, images)[::97]
    assert (ham10000_files.decode_images(some) == cached).all()


@pytest.mark.parametrize("name", FETCHED)
def test_what_was_fetched_is_there_and_verified(name: str, real_data: Path) -> None:
    dataset_module(name).verify(real_data)
    assert {status.name: status.present for status in dataset_statuses(real_data)}[name]
