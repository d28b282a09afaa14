from __future__ import annotations

import errno
import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from fedbench.datasets import load_dataset, mnist
from fedbench.util.errors import DataError

IMAGES = "train-images-idx3-ubyte"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def content(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data / "MNIST" / "raw").iterdir()}


@pytest.mark.parametrize("layout", [".", "MNIST", "MNIST/raw"])
def test_a_fetch_from_a_folder_leaves_only_the_unpacked_files(small_mnist: Any, data: Path, layout: str) -> None:
    mnist.MNIST.fetch(data, small_mnist.source / layout)
    assert small_mnist.unpacked == content(data)


def test_a_fetch_takes_unpacked_files_too(small_mnist: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "unpacked").mkdir()
    for name, unpacked in small_mnist.unpacked.items():
        (tmp_path / "unpacked" / name).write_bytes(unpacked)
    mnist.MNIST.fetch(data, tmp_path / "unpacked")
    assert small_mnist.unpacked == content(data)


def test_packed_files_that_were_copied_by_hand_are_unpacked_by_load(small_mnist: Any) -> None:
    assert mnist.MNIST.is_present(small_mnist.source)
    mnist.MNIST.verify(small_mnist.source)
    load_dataset("mnist", folder=small_mnist.source)
    assert small_mnist.unpacked[IMAGES] == (small_mnist.raw / IMAGES).read_bytes()


def test_a_damaged_packed_file_is_named_by_load(small_mnist: Any) -> None:
    packed = small_mnist.raw / f"{IMAGES}.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{IMAGES}.gz is damaged .*: delete it and run: fedbench data fetch mnist"):
        load_dataset("mnist", folder=small_mnist.source)
    assert not (small_mnist.raw / IMAGES).exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:0], lambda b: b[:500] + b"x" + b[501:]])
def test_a_damaged_file_is_named_and_fixed_by_a_fetch(
    small_mnist: Any, data: Path, damage: Callable[[bytes], bytes]
) -> None:
    mnist.MNIST.fetch(data, small_mnist.source)
    path = data / "MNIST" / "raw" / IMAGES
    path.write_bytes(damage(path.read_bytes()))
    expected = f"{path} is damaged: delete it and run: fedbench data fetch mnist"
    for action in (lambda: load_dataset("mnist", folder=data), lambda: mnist.MNIST.verify(data)):
        with pytest.raises(DataError) as caught:
            action()
        assert expected == str(caught.value)
    mnist.MNIST.fetch(data, small_mnist.source)
    assert small_mnist.unpacked == content(data)


def test_one_missing_file_is_named(small_mnist: Any, data: Path) -> None:
    mnist.MNIST.fetch(data, small_mnist.source)
    (data / "MNIST" / "raw" / IMAGES).unlink()
    with pytest.raises(DataError, match=rf"{IMAGES} is missing: run: fedbench data fetch mnist"):
        load_dataset("mnist", folder=data)
    assert not mnist.MNIST.is_present(data)


@pytest.mark.parametrize("train", [True, False])
def test_the_files_are_read_as_torchvision_reads_them(small_mnist: Any, data: Path, train: bool) -> None:
    mnist.MNIST.fetch(data, small_mnist.source)
    dataset, expected = load_dataset("mnist", folder=data), torchvision.datasets.MNIST(data, train=train)
    images, labels = (
        (dataset.train_images, dataset.train_labels) if train else (dataset.test_images, dataset.test_labels)
    )
    assert torch.equal(expected.data, images.squeeze(1))
    assert torch.equal(expected.targets, labels)


def test_a_fetch_of_present_files_touches_nothing(small_mnist: Any, data: Path, unchanged: Callable[..., Any]) -> None:
    mnist.MNIST.fetch(data, small_mnist.source)
    before = unchanged(data)
    mnist.MNIST.fetch(data, None)  # and needs no source
    assert before == unchanged(data)


def test_a_file_with_the_wrong_content_is_not_installed(small_mnist: Any, data: Path) -> None:
    (small_mnist.raw / f"{IMAGES}.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match=rf"{IMAGES}.gz is damaged or not mnist's: give another copy"):
        mnist.MNIST.fetch(data, small_mnist.source)
    assert not content(data)


@pytest.mark.usefixtures("small_mnist")
def test_a_source_without_the_file_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"empty has neither MNIST/raw/{IMAGES}.gz nor {IMAGES}.gz"):
        mnist.MNIST.fetch(data, tmp_path / "empty")
    with pytest.raises(DataError, match=r"nowhere is not a folder"):
        mnist.MNIST.fetch(data, tmp_path / "nowhere")


def test_a_full_disk_is_an_error_of_one_line_and_leaves_nothing(
    small_mnist: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", raise_full_disk)
    with pytest.raises(DataError, match=r"^cannot fetch mnist into \S+: No space left on device$"):
        mnist.MNIST.fetch(data, small_mnist.source)
    assert not content(data)


def raise_full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(small_mnist: Any, serve: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    server = serve(small_mnist.source)
    monkeypatch.setenv("FEDBENCH_MIRROR", f"{server.url}/")
    return server


def ranges_asked_of(server: Any, name: str = IMAGES) -> list[str | None]:
    return [wanted for path, wanted in server.requests if name in path]


def test_a_fetch_from_a_mirror_url_asks_for_each_file_once(small_mnist: Any, server: Any, data: Path) -> None:
    mnist.MNIST.fetch(data, None)
    assert small_mnist.unpacked == content(data)
    assert [(f"/MNIST/raw/{name}.gz", None) for name in small_mnist.unpacked] == server.requests


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_resumes_or_starts_over_if_the_server_cannot(
    small_mnist: Any, server: Any, data: Path, ranges: bool
) -> None:
    server.ranges = ranges
    (data / "MNIST" / "raw").mkdir(parents=True)
    start = (small_mnist.raw / f"{IMAGES}.gz").read_bytes()[:100_000]
    (data / "MNIST" / "raw" / f"{IMAGES}.gz.part").write_bytes(start)
    mnist.MNIST.fetch(data, None)
    assert small_mnist.unpacked == content(data)
    assert ["bytes=100000-"] == ranges_asked_of(server)


@pytest.mark.parametrize("size", [70_000, 10_000_000])
def test_a_part_that_does_not_fit_is_thrown_away(small_mnist: Any, server: Any, data: Path, size: int) -> None:
    (data / "MNIST" / "raw").mkdir(parents=True)
    (data / "MNIST" / "raw" / f"{IMAGES}.gz.part").write_bytes(bytes(size))
    mnist.MNIST.fetch(data, None)
    assert small_mnist.unpacked == content(data)
    assert [f"bytes={size}-", None] == ranges_asked_of(server)


def test_a_connection_that_breaks_off_is_retried(small_mnist: Any, server: Any, data: Path) -> None:
    server.break_after = 100_000
    mnist.MNIST.fetch(data, None)
    assert small_mnist.unpacked == content(data)
    first, second = ranges_asked_of(server)
    assert first is None
    assert second in {"bytes=65536-", "bytes=100000-"}  # whole pieces, or all that came


@pytest.mark.usefixtures("server")
def test_a_mirror_with_a_wrong_file_is_named_and_nothing_is_left(small_mnist: Any, data: Path) -> None:
    (small_mnist.raw / f"{IMAGES}.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match=rf"^FEDBENCH_MIRROR: \S+/{IMAGES}.gz is not the published file"):
        mnist.MNIST.fetch(data, None)
    assert not content(data)


@pytest.mark.usefixtures("server")
def test_a_file_that_is_too_large_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedbench.datasets.idx.LARGEST_FILE", 1000)
    with pytest.raises(DataError, match=rf"{IMAGES}.gz is larger than 1000 bytes"):
        mnist.MNIST.fetch(data, None)
    assert not content(data)


@pytest.mark.usefixtures("server")
def test_a_disk_that_is_full_after_the_download_keeps_no_part_of_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", raise_full_disk)
    with pytest.raises(DataError, match=r"^cannot fetch mnist into \S+: No space left on device$"):
        mnist.MNIST.fetch(data, None)
    assert not content(data)


def test_a_server_in_trouble_is_named(server: Any, data: Path) -> None:
    server.status = 503
    with pytest.raises(DataError, match=r"^FEDBENCH_MIRROR: 127.0.0.1:\d+ does not deliver \(it answers 503 .*\)"):
        mnist.MNIST.fetch(data, None)
    expected_tries = 3
    assert expected_tries == len(server.requests)


@pytest.mark.usefixtures("server")
def test_what_the_mirror_lacks_comes_from_the_public_servers(
    small_mnist: Any,
    serve: Callable[[Path], Any],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "public").mkdir()
    (small_mnist.raw / f"{IMAGES}.gz").rename(tmp_path / "public" / f"{IMAGES}.gz")
    addresses = ["http://127.0.0.1:9/gone/", f"{serve(tmp_path / 'public').url}/"]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", addresses)
    mnist.MNIST.fetch(data, None)
    assert small_mnist.unpacked == content(data)


@pytest.mark.usefixtures("small_mnist")
def test_without_a_network_the_hosts_and_the_remedies_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/", "http://no-such-host.invalid/"])
    with pytest.raises(DataError) as caught:
        mnist.MNIST.fetch(data, None)
    assert str(caught.value).startswith(
        f"cannot fetch {IMAGES}.gz: 127.0.0.1:9 does not deliver (it refuses the connection); "
    )
    assert str(caught.value).endswith("or run: fedbench data fetch mnist --from FOLDER")
    assert "no-such-host.invalid" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_fetches_at_once_do_the_work_once(small_mnist: Any, server: Any, data: Path) -> None:
    threads = [threading.Thread(target=mnist.MNIST.fetch, args=(data, None)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert small_mnist.unpacked == content(data)
    assert sorted(small_mnist.unpacked) == sorted(path[len("/MNIST/raw/") : -len(".gz")] for path, _ in server.requests)


def test_a_killed_fetch_leaves_nothing_that_loads_and_resumes(
    small_mnist: Any, server: Any, data: Path, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    server.stall_after = 100_000
    code = f"{small_mnist.patches}\nfrom pathlib import Path\nmnist.MNIST.fetch(Path({str(data)!r}), None)"
    process = subprocess.Popen([sys.executable, "-c", code])
    part = data / "MNIST" / "raw" / f"{IMAGES}.gz.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 0)
    process.kill()
    expected_end = -signal.SIGKILL
    assert expected_end == process.wait()
    expected_ranges = [None, f"bytes={part.stat().st_size}-"]
    assert [part.name] == list(content(data))
    with pytest.raises(DataError, match="is not in"):
        load_dataset("mnist", folder=data)
    server.stall_after = None
    mnist.MNIST.fetch(data, None)
    assert small_mnist.unpacked == content(data)
    assert expected_ranges == ranges_asked_of(server)


def test_what_a_killed_process_left_half_written_is_removed(small_mnist: Any, data: Path) -> None:
    raw = data / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / f".{IMAGES}.123-0123abcd.tmp").write_bytes(b"half")
    for name in (".notes.tmp", "notes.123-0123abcd.tmp"):
        (raw / name).write_text("of somebody else")
    mnist.MNIST.fetch(data, small_mnist.source)
    for name in (".notes.tmp", "notes.123-0123abcd.tmp"):
        (raw / name).unlink()
    assert small_mnist.unpacked == content(data)
