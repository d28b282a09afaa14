from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedbench.datasets import DATASETS, dataset_info, dataset_module, dataset_statuses, load_dataset, mnist
from fedbench.datasets.content import content_digest
from fedbench.util.errors import DataError


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_names_its_licence_and_whom_to_cite(name: str) -> None:
    info = dataset_info(name)
    assert info.licence
    assert info.citation
    assert info.url.startswith("http")


def test_an_unknown_dataset_or_split_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"unknown dataset 'cifar': .*mnist-5k, mnist, fashion-mnist, ham10000"):
        load_dataset("cifar")
    with pytest.raises(DataError, match=r"ham10000 has no split 'person': choose from lesion, image"):
        load_dataset("ham10000", "person")


def test_the_status_of_all_datasets_says_what_is_there_and_how_to_get_it(tmp_path: Path) -> None:
    statuses = {status.name: status for status in dataset_statuses(tmp_path)}
    assert list(DATASETS) == list(statuses)
    assert statuses["mnist-5k"].present
    assert not statuses["ham10000"].present
    assert statuses["ham10000"].command == "fedbench data fetch ham10000"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "ham10000"])
@pytest.mark.parametrize("action", ["load", "verify"])
def test_a_missing_dataset_names_the_command_that_downloads_it(name: str, action: str, tmp_path: Path) -> None:
    arguments = (tmp_path, dataset_info(name).default_split) if action == "load" else (tmp_path,)
    with pytest.raises(DataError) as caught:
        getattr(dataset_module(name), action)(*arguments)
    assert str(caught.value) == f"dataset {name} is not in {tmp_path}: run: fedbench data fetch {name}"


@pytest.mark.parametrize("name", ["mnist", "ham10000"])
@pytest.mark.parametrize(
    ("mirror", "line"),
    [
        ("nowhere", r"^FEDBENCH_MIRROR is nowhere, which is neither a folder .*URL$"),
        ("http://127.0.0.1:9/data", r"^FEDBENCH_MIRROR: 127.0.0.1:9 does not deliver \(it refuses .*--from"),
    ],
)
def test_a_mirror_that_cannot_be_used_is_named(
    name: str, mirror: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBENCH_MIRROR", mirror)
    with pytest.raises(DataError, match=line):
        dataset_module(name).fetch(tmp_path / "data", None)


@pytest.mark.parametrize("name", ["mnist", "ham10000"])
def test_a_data_folder_that_cannot_be_written_is_an_error_of_one_line(
    name: str, tmp_path: Path, small_ham: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBENCH_MIRROR", str(small_ham.parent))
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"^cannot fetch \S+ into \S+: Not a directory"):
        dataset_module(name).fetch(tmp_path / "data", None)


def test_the_digest_depends_on_bytes_shapes_types_and_statistics() -> None:
    images, labels = torch.arange(8, dtype=torch.uint8), torch.arange(2)
    base = ((images.view(2, 1, 2, 2), labels), (0.5,), (0.25,), ("a", "b"))
    changed = [
        ((images.view(2, 1, 4, 1), labels), *base[1:]),
        ((images.flip(0).view(2, 1, 2, 2), labels), *base[1:]),
        ((images.view(2, 1, 2, 2).to(torch.int8), labels), *base[1:]),
        (base[0], (0.4,), *base[2:]),
        (base[0], base[1], (0.2,), base[3]),
        (*base[:3], ("a", "c")),
    ]
    digests = {content_digest(*content) for content in [base, *changed]}
    assert content_digest(*base) == content_digest(*base)
    expected_different = len(changed) + 1
    assert expected_different == len(digests)


def test_normalise_does_as_torchvision(small_ham: Path) -> None:
    from torchvision.transforms import v2

    dataset = load_dataset("ham10000", folder=small_ham.parent)
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(dataset.mean, dataset.std)])
    expected = transform(dataset.test_images)
    torch.testing.assert_close(expected, dataset.normalise(dataset.test_images))


@pytest.mark.usefixtures("small_mnist")
def test_a_dataset_of_another_size_than_the_table_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBENCH_MIRROR", str(tmp_path / "mirror"))
    dataset_module("mnist").fetch(tmp_path, None)
    monkeypatch.setitem(mnist.MNIST.INFO.sizes, "standard", (201, 100))
    with pytest.raises(DataError, match="200 training and 100 test examples instead of 201 and 100"):
        load_dataset("mnist", folder=tmp_path)
