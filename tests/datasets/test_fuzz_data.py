"""Whatever a file of data holds, it is refused in one line that names it, or it is a dataset."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import TEXT, any_bytes, damaged, fuzz, result_of
from hypothesis import example
from hypothesis import strategies as st
from hypothesis.extra.numpy import (
    array_dtypes,
    array_shapes,
    arrays,
    byte_string_dtypes,
    scalar_dtypes,
    unicode_string_dtypes,
)
from numpy.typing import NDArray
from PIL import Image

from fedbench.datasets import Dataset, ham10000, mnist
from fedbench.datasets.ham10000_files import parse_table
from fedbench.datasets.npz import NpzDataset
from fedbench.datasets.pictures import PictureDataset

# .npz files

ARRAYS: dict[str, NDArray[Any]] = {
    "x_train": np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6),
    "y_train": np.array([0, 1, 0, 1]),
    "x_test": np.ones((2, 6, 6), np.uint8),
    "y_test": np.array([0, 1]),
    "names": np.array(["cat", "dog"]),
    "groups": np.array(["a", "b", "c", "d"]),
    "columns": np.array([("x", 1)] * 4, dtype=[("place", "U1"), ("age", "i4")]),
}
TYPES = scalar_dtypes() | byte_string_dtypes() | unicode_string_dtypes() | array_dtypes()
ANY_ARRAY = arrays(TYPES, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)) | st.lists(
    TEXT, min_size=2, max_size=4
).map(np.array)


def npz(content: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    return buffer.getvalue()


def members(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in content.items():
            file.writestr(name, member)
    return buffer.getvalue()


NPZ = npz(ARRAYS)
DAMAGED_INSIDE = st.sampled_from(sorted(members(NPZ).items())).flatmap(  # with a right checksum
    lambda item: damaged(item[1]).map(lambda content: zipped(members(NPZ) | {item[0]: content}))
)


HEADER = members(NPZ)["names.npy"]


@fuzz(any_bytes(NPZ) | DAMAGED_INSIDE, examples=150)
@example(zipped(members(NPZ) | {"names.npy": HEADER.replace(b"{", b" ")}))
@example(zipped(members(NPZ) | {"names.npy": HEADER.replace(b"t\x00\x00\x00", b"t\x00 \x00")}))  # no character
@example(npz(ARRAYS | {"names": np.array([b"\xff", b"\xfe"])}))
def test_bytes_of_npz(tmp_path: Path, content: bytes) -> None:
    _require_npz(tmp_path, content)


@fuzz(st.dictionaries(st.sampled_from(list(ARRAYS)), ANY_ARRAY | st.sampled_from(list(ARRAYS.values())), max_size=3))
def test_arrays_near_valid_ones(tmp_path: Path, content: dict[str, Any]) -> None:
    _require_npz(tmp_path, npz(ARRAYS | content))


def _require_npz(folder: Path, content: bytes) -> None:
    path = folder / "data.npz"
    path.write_bytes(content)
    dataset = NpzDataset(str(path))
    info = result_of(lambda: dataset.INFO, path)
    loaded: Dataset | None = result_of(lambda: dataset.load(folder, ""), path)
    result_of(lambda: dataset.load_training(folder, ""), path)
    if info and loaded:
        assert info.sizes["given"] == (len(loaded.train_labels), len(loaded.test_labels))
        assert all(name.isprintable() for name in loaded.class_names)


# IDX files


@fuzz(st.data())
def test_idx_files(small_mnist: Any, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(small_mnist.unpacked)))
    plain = small_mnist.unpacked[name]
    is_packed = data.draw(st.booleans())
    packed = (small_mnist.raw / f"{name}.gz").read_bytes()
    content = data.draw(any_bytes(packed) | damaged(plain).map(gzip.compress) if is_packed else any_bytes(plain))
    raw = tmp_path / "data" / "MNIST" / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    shutil.copytree(small_mnist.raw, raw)
    if not is_packed:
        (raw / f"{name}.gz").unlink()
    (raw / (f"{name}.gz" if is_packed else name)).write_bytes(content)
    result_of(lambda: mnist.MNIST.load(tmp_path / "data", "standard"), raw / name)
    result_of(lambda: mnist.MNIST.verify(tmp_path / "data"), raw / name)


# Pictures in folders


def picture(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


PICTURES = [picture(kind) for kind in ("png", "jpeg", "bmp", "tiff", "webp", "gif")] + [picture("png", "P")]


@fuzz(any_bytes(*PICTURES), st.sampled_from([None, 6]), st.sampled_from([None, 1, 3]), examples=150)
def test_pictures(tmp_path: Path, content: bytes, size: int | None, channels: Any) -> None:
    for half in ("train", "test"):
        for name in ("cat", "dog"):
            path = tmp_path / "pictures" / half / name / "1.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PICTURES[0])
    path = tmp_path / "pictures" / "train" / "dog" / "1.png"
    path.write_bytes(content)
    dataset = PictureDataset(str(tmp_path / "pictures"), picture_size=size, picture_channels=channels)
    result_of(lambda: dataset.verify(tmp_path), path)
    result_of(lambda: dataset.INFO, path)


# HAM10000

ROWS = [["lesion_id", "image_id", "dx", "age"]] + [
    [f"HAM_{number // 2}", f"ISIC_{29_302 + number:07d}", diagnosis, "50"]
    for number, diagnosis in enumerate(ham10000.CLASSES)
]
TABLE = "HAM10000_metadata.csv"
IMAGES = {f"{row[1]}.jpg": picture("jpeg") for row in ROWS[1:]}


def table(rows: list[list[str]], sign: str = ",", end: str = "\n") -> bytes:
    return "".join(sign.join(row) + end for row in rows).encode(errors="surrogatepass")


TABLES = [
    table(ROWS),
    table(ROWS, "\t"),
    table(ROWS, ";", "\r\n"),
    table([[f'"{cell}"' for cell in row] for row in ROWS]),
]


@st.composite
def changed_table(draw: st.DrawFn) -> bytes:
    rows = [list(row) for row in ROWS]
    row = draw(st.sampled_from(rows))
    row[draw(st.integers(0, len(row) - 1))] = draw(TEXT)
    if draw(st.booleans()):
        rows.append(draw(st.sampled_from(rows)))
    return table(rows, draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n", ",\n"])))


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ham10000, "INFO", replace(ham10000.INFO, sizes={"lesion": (6, 1), "image": (6, 1)}))


@pytest.mark.usefixtures("_small")
@fuzz(any_bytes(*TABLES) | changed_table(), examples=150)
def test_tables(content: bytes) -> None:
    found = result_of(lambda: parse_table(content, "table.csv"), "table.csv")
    if found is not None:
        for split in ham10000.SPLITS.values():
            train, test = split(found)
            assert sorted(train + test) == list(range(7))


ARCHIVE = {TABLE: TABLES[0]} | {f"HAM10000_images_part_1/{name}": content for name, content in IMAGES.items()}
NESTED = {TABLE: TABLES[1], "part.zip": zipped(IMAGES)}


@st.composite
def changed_archive(draw: st.DrawFn) -> bytes:
    """An archive with a right checksum, of which a member is other bytes or has another name."""
    content = dict(draw(st.sampled_from([ARCHIVE, NESTED])))
    name = draw(st.sampled_from(sorted(content)))
    if draw(st.booleans()):
        content[name] = draw(changed_table() if name == TABLE else any_bytes(content[name]))
    else:
        other = draw(st.sampled_from(sorted(content)) | TEXT.filter(lambda text: text not in ("", "\x00", "\ud800")))
        content[other[:100]] = content.pop(name)
    return zipped(content)


@pytest.mark.usefixtures("_small")
@fuzz(any_bytes(zipped(ARCHIVE), zipped(NESTED)) | changed_archive())
def test_archives(tmp_path: Path, content: bytes) -> None:
    path, data, skin = tmp_path / "given.zip", tmp_path / "data", tmp_path / "data" / "skin"
    path.write_bytes(content)
    shutil.rmtree(data, ignore_errors=True)
    result_of(lambda: ham10000.fetch(data, path), path, skin)
    assert {"given.zip", "data"} >= {each.name for each in tmp_path.iterdir()}
    result_of(lambda: ham10000.load(data, "image"), data)
