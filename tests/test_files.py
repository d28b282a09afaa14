"""Files that cannot be read to their end are refused in one line: a command neither waits for ever nor fills memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import fedbench_here

from fedbench.util.errors import DataError
from fedbench.util.files import regular, replacing, require_writable

NO_FILE = "it is a pipe or a device; name a regular file"
SUITE = "{{name: odd, question: Does it work, seeds: [0], scenarios: [{{name: a, {}}}]}}"


@pytest.fixture(params=["pipe", "device"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What is opened and never ends."""
    path = tmp_path / "odd"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


def test_a_regular_file_has_a_size_that_can_be_limited(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert path == regular(path, 4) == regular(path)
    with pytest.raises(OSError, match="it is larger than 3 bytes"):
        regular(path, 3)
    with pytest.raises(IsADirectoryError):
        regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        regular(tmp_path / "missing")


def test_what_is_no_file_is_not_replaced(odd: Path) -> None:
    with pytest.raises(DataError, match="odd is in the way"):
        require_writable(odd)
    with pytest.raises(OSError, match=NO_FILE), replacing(odd) as file:
        file.write(b"1")
    assert not odd.is_file()


@pytest.mark.parametrize("arguments", [("run", "./odd.yaml"), ("suites", "odd"), ("check", "odd.yaml"), ("suites",)])
def test_a_suite_that_is_no_file_is_refused(odd: Path, arguments: tuple[str, ...]) -> None:
    (odd.parent / "suites").mkdir()
    for place in ("odd.yaml", "suites/odd.yaml"):
        (odd.parent / place).symlink_to(odd)
    done = fedbench_here(*arguments, folder=odd.parent)
    assert (2, True) == (done.code, f"odd.yaml: cannot be read: {NO_FILE}" in done.err), done.err


@pytest.mark.parametrize(
    ("field", "name"),
    [("dataset: ./odd.npz", "odd.npz"), ("model: './odd.py:Net'", "odd.py"), ("dataset: ./odd.py", "odd.py")],
)
def test_a_part_that_is_no_file_is_refused(odd: Path, field: str, name: str) -> None:
    (odd.parent / name).symlink_to(odd)
    (odd.parent / "s.yaml").write_text(SUITE.format(field))
    done = fedbench_here("run", "s.yaml", folder=odd.parent)
    assert 2 == done.code
    assert f"{name} cannot be read: {NO_FILE}" in done.err


def test_a_picture_that_is_no_file_is_refused(odd: Path) -> None:
    for half in ("train", "test"):
        (odd.parent / "photos" / half / "a").mkdir(parents=True)
        (odd.parent / "photos" / half / "a/x.png").symlink_to(odd)
    (odd.parent / "s.yaml").write_text(SUITE.format("dataset: ./photos"))
    done = fedbench_here("run", "s.yaml", folder=odd.parent)
    assert 2 == done.code
    assert f"photos/train/a/x.png cannot be read as a picture ({NO_FILE})" in done.err


def test_a_baseline_that_is_no_file_is_refused(odd: Path) -> None:
    (odd.parent / "baselines").mkdir()
    (odd.parent / "baselines/quickstart.json").symlink_to(odd)
    done = fedbench_here("check", "quickstart", "--no-log", folder=odd.parent)
    assert (2, True) == (done.code, f"quickstart.json cannot be read: {NO_FILE}" in done.err), done.err


@pytest.mark.parametrize("name", ["odd.zip", "HAM10000_metadata.csv"])
def test_data_that_is_no_file_is_refused(odd: Path, name: str) -> None:
    source = odd.parent / "skin" / name
    source.parent.mkdir()
    source.symlink_to(odd)
    of = source if name.endswith("zip") else source.parent
    done = fedbench_here("data", "fetch", "ham10000", "--from", str(of), folder=odd.parent)
    assert 2 == done.code
    assert 1 == len(done.err.splitlines())


@pytest.mark.parametrize("arguments", [("runs", "list"), ("run", "quickstart"), ("tune", "quickstart")])
def test_a_store_that_is_no_file_is_refused(odd: Path, arguments: tuple[str, ...]) -> None:
    done = fedbench_here(*arguments, "--tracking-uri", f"sqlite:///{odd}", folder=odd.parent)
    assert 2 == done.code
    assert 1 == len(done.err.splitlines())
