"""Data of a user's: the arrays of a file or of a function, and what is wrong with them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedbench.components import find
from fedbench.datasets import arrays, load_dataset
from fedbench.datasets.validation import load_held_out
from fedbench.util.errors import DataError, FedbenchError, SuiteError

Arrays = dict[str, Any]
SMALL: Arrays = {
    "x_train": np.arange(24.0).reshape(6, 4),
    "y_train": np.array([0, 1, 2, 0, 1, 2]),
    "x_test": np.zeros((2, 4)),
    "y_test": np.array([0, 2]),
}
GREY = np.arange(2 * 5 * 6, dtype=np.uint8).reshape(2, 5, 6)


def of_file(folder: Path, content: Arrays, **options: Any) -> Any:
    np.savez(folder / "scans.npz", **content)
    return find("dataset", "./scans.npz", folder).make(**options)


def of_function(folder: Path, content: Arrays) -> Any:
    (folder / "own_data.py").write_text("def load(): return content()\n")
    made = find("dataset", "./own_data.py:load", folder).make()
    made.function.__globals__["content"] = lambda: content
    return made


EITHER = pytest.mark.parametrize("made", [of_file, of_function])
Made = Callable[[Path, Arrays], Any]


@EITHER
def test_floats_are_given_to_the_model_as_they_are(tmp_path: Path, made: Made) -> None:
    source = made(tmp_path, SMALL)
    dataset = load_dataset(source)
    assert ((4,), 3, {"given": (6, 2)}) == (source.INFO.image_shape, source.INFO.num_classes, source.INFO.sizes)
    assert torch.equal(torch.arange(24, dtype=torch.float32).view(6, 4), dataset.normalise(dataset.train_images))
    assert ([0, 1, 2, 0, 1, 2], ("0", "1", "2")) == (dataset.train_labels.tolist(), dataset.class_names)


@pytest.mark.filterwarnings("error")
def test_arrays_that_are_mapped_from_a_file_or_of_another_byte_order_will_do(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SMALL["x_train"].astype("float32"))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    same = of_function(tmp_path, SMALL | {"x_train": mapped, "x_test": SMALL["x_test"].astype(">f8")})
    assert load_dataset(of_file(tmp_path, SMALL)).digest == load_dataset(same).digest


def test_whole_numbers_are_given_as_they_are(tmp_path: Path) -> None:
    tokens = {key: value.astype("int32") if key[0] == "x" else value for key, value in SMALL.items()}
    source = of_file(tmp_path, tokens)
    assert ("int64", torch.int64) == (source.INFO.dtype, load_dataset(source).train_images.dtype)


def test_a_file_and_a_function_of_the_same_arrays_are_the_same_data(tmp_path: Path) -> None:
    assert load_dataset(of_file(tmp_path, SMALL)).digest == load_dataset(of_function(tmp_path, SMALL)).digest


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (GREY, (1, 5, 6)),
        (GREY[..., None], (1, 5, 6)),
        (GREY[:, None], (1, 5, 6)),
        (np.stack([GREY, GREY + 1, GREY + 2], axis=-1), (3, 5, 6)),
        (np.stack([GREY, GREY + 1, GREY + 2], axis=1), (3, 5, 6)),
    ],
)
def test_images_become_channels_first(tmp_path: Path, images: np.ndarray, shape: tuple[int, ...]) -> None:
    y = np.array([0, 1])
    source = of_file(tmp_path, {"x_train": images, "y_train": y, "x_test": images, "y_test": y})
    dataset = load_dataset(source)
    assert shape == source.INFO.image_shape
    assert (GREY + shape[0] - 1 == dataset.train_images[:, -1].numpy()).all()


def test_images_are_normalised_by_the_mean_and_deviation_of_the_training_images(tmp_path: Path) -> None:
    x = np.zeros((2, 2, 8, 8), dtype=np.uint8)
    x[0, 0] = 255  # the first channel is half white, the second is black
    content = {"x_train": x, "y_train": [0, 1], "x_test": x[:1], "y_test": [1]}
    dataset = load_dataset(of_file(tmp_path, content))
    assert ((0.5, 0.0), (0.5, 1.0)) == (dataset.mean, dataset.std)
    assert [1.0, -1.0] == dataset.normalise(dataset.train_images)[:, 0, 0, 0].tolist()
    assert 0.0 == dataset.normalise(dataset.train_images)[0, 1, 0, 0].item()


@EITHER
def test_names_groups_and_columns(tmp_path: Path, made: Made) -> None:
    columns = np.rec.fromarrays([list("aabbcc"), [1.5, np.nan, 2, 2, 2, 2]], names="hospital,age")
    more = {"names": ["cat", "dog", "hen"], "groups": [0, 0, 0, 1, 1, 1], "columns": columns}
    source = made(tmp_path, SMALL | more)
    dataset = load_dataset(source)
    assert ("cat", "dog", "hen") == dataset.class_names
    assert ["a", "a", "b", "b", "c", "c"] == dataset.train_columns["hospital"].tolist()
    assert ["1.5", "", "2.0", "2.0", "2.0", "2.0"] == dataset.train_columns["age"].tolist()
    assert ["0", "0", "0", "1", "1", "1"] == source.load_training(tmp_path, "given").groups


@EITHER
def test_groups_stay_together_in_the_validation_split(tmp_path: Path, made: Made) -> None:
    x, y = np.arange(80.0).reshape(40, 2), np.repeat([0, 1], 20)
    content = {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "groups": np.arange(40) // 4}
    held_out = load_held_out("scans", "given", 0.2, source=made(tmp_path, content))
    assert (32, 8) == (len(held_out.train_labels), len(held_out.test_labels))
    groups = [set((part[:, 0] // 8).int().tolist()) for part in (held_out.train_images, held_out.test_images)]
    assert not groups[0] & groups[1]


def test_the_validation_split_does_not_read_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = of_file(tmp_path, SMALL)
    read: list[str] = []
    opened = zipfile.ZipFile.open

    def watched(self: zipfile.ZipFile, name: Any, *rest: Any) -> Any:
        read.extend([name] if isinstance(name, str) else [])  # by name for its content, by its entry for the header
        return opened(self, name, *rest)

    monkeypatch.setattr(zipfile.ZipFile, "open", watched)
    source.load_training(tmp_path, "given")
    assert ["x_train.npy", "y_train.npy"] == read


def test_what_is_known_without_loading_comes_from_headers_and_labels(tmp_path: Path) -> None:
    source = of_file(tmp_path, SMALL | {"x_train": np.full((6, 4), np.nan)})
    assert (6, 2) == source.INFO.sizes["given"]
    with pytest.raises(DataError, match="example 0 has a value that is NaN"):
        load_dataset(source)


def test_a_function_is_called_once_and_only_when_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "own_data.py").write_text(
        "calls = []\ndef load(count: int = 3):\n    calls.append(count)\n    return {}\n"
    )
    found = find("dataset", "./own_data.py:load", tmp_path)
    made = found.make(count=5)
    calls = made.function.__globals__["calls"]
    assert (["count"], []) == (list(found.options.model_fields), calls)
    for _ in range(2):
        with pytest.raises(DataError, match="x_train is missing"):
            _ = found.make(count=5).INFO
    assert {5} == set(calls)


# Bad input

LONG = np.zeros((3, 4))
WRONG: list[tuple[Arrays, str]] = [
    ({"x_test": None}, "x_test is missing; there must be x_train, y_train, x_test, y_test, and there are x_train, y_"),
    ({"group": [1]}, "unknown array 'group'; did you mean groups?"),
    ({"y_train": [0, 1]}, "x_train has 6 examples and y_train 2 labels"),
    ({"x_test": LONG}, "x_test has 3 examples and y_test 2 labels"),
    ({"y_test": np.eye(2)}, r"y_test has the shape \(2, 2\); it must be \(N,\)"),
    ({"y_train": [0, 1, 2, 0, 1, 0.5]}, "y_train: example 5 has the label 0.5, no whole number"),
    ({"y_train": [0, 1, 2, 0, 1, np.nan]}, "y_train: example 5 has the label nan, no whole number"),
    ({"y_train": [0, 1, 2, 0, 1, -1]}, "y_train: example 5 has the label -1; labels start at 0"),
    ({"y_train": list("abcabc")}, "y_train is <U1; number the classes from 0, and name them in names"),
    ({"y_train": [0, 1, 2, 0, 1, 9]}, "class 3 has no training examples"),
    ({"y_train": [0, 1, 2, 0, 1, 2**40]}, "y_train has labels up to 1,099,511,627,776; at most 10,000 classes"),
    ({"y_test": [0, 3]}, "y_test has the label 3, and this class has no training examples; labels are 0 to 2"),
    ({"y_train": np.zeros(6)}, "there is one class; a classification has two or more"),
    ({"names": ["a", "b"]}, "y_train has the label 2, and names has 2 classes; labels are 0 to 1"),
    ({"names": list("abcd")}, "class 3, d, has no training examples"),
    ({"names": list("aba")}, "two classes have the name 'a'"),
    ({"names": ["a", "b", "c++"]}, r"'c\+\+' cannot name a class; take letters"),
    ({"names": np.zeros((3, 1))}, r"names has the shape \(3, 1\)"),
    ({"x_train": np.where(np.eye(6, 4), np.nan, 0)}, "x_train: example 0 has a value that is NaN or infinite"),
    ({"x_train": np.full((6, 4), 1e300)}, "x_train: example 0 has a value that is NaN or infinite"),
    ({"x_test": np.array([[0, 0, 0, 0], [0, 0, np.inf, 0]])}, "x_test: example 1 has a value that is NaN or infinite"),
    ({"x_test": np.zeros((2, 5))}, "x_train has examples of 4 float32 and x_test of 5 float32; they must be alike"),
    ({"x_test": np.zeros((2, 4), int)}, "x_train has examples of 4 float32 and x_test of 4 int64"),
    ({"x_train": np.zeros(6)}, r"x_train has the shape \(6,\); it must be \(N, ...\)"),
    ({"x_test": np.zeros((0, 4)), "y_test": np.zeros(0, int)}, r"x_test has the shape \(0, 4\)"),
    ({"x_train": np.zeros((6, 4), complex)}, "x_train is complex128; inputs are numbers"),
    ({"x_train": np.zeros((6, 4), bool)}, "x_train is bool; inputs are numbers"),
    ({"x_train": np.zeros((6, 4), np.uint8)}, "no axis has 1 to 4 channels; images are"),
    ({"x_train": np.zeros((6, 3, 32, 3), np.uint8)}, r"which axis has the channels is not clear; images are \(N, H, W"),
    ({"x_train": np.zeros((6, 32, 32, 7), np.uint8)}, "no axis has 1 to 4 channels"),
    ({"groups": [1, 2]}, r"groups has the shape \(2,\); it must be \(6,\)"),
    ({"columns": np.zeros(6)}, "columns must be an array with named fields"),
    ({"columns": np.zeros(2, [("age", float)])}, r"columns: age has the shape \(2,\); it must be \(6,\)"),
]


@EITHER
@pytest.mark.parametrize(("changes", "expected"), WRONG)
def test_wrong_arrays_are_one_line(tmp_path: Path, made: Made, changes: Arrays, expected: str) -> None:
    content = {key: value for key, value in (SMALL | changes).items() if value is not None}
    with pytest.raises(DataError, match=f"^\\S+: .*{expected}") as caught:
        made(tmp_path, content).load(tmp_path, "given")
    assert "\n" not in str(caught.value)


def test_python_objects_in_a_file_are_not_read(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return (tmp_path / "harm").write_text, ("done",)

    with pytest.raises(DataError, match="x_train has Python objects, which are not read since they can execute code"):
        _ = of_file(tmp_path, SMALL | {"x_train": np.array([Harmful()] * 6)}).INFO
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "longer"])
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    source, path = of_file(tmp_path, SMALL), tmp_path / "scans.npz"
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(3.0).tobytes()) + 8] ^= 1  # a bit of x_train
    {
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(content[: len(content) // 2]),
        "text": lambda: path.write_text("x_train"),
        "flipped": lambda: path.write_bytes(content),
        "longer": lambda: _with_member(path, "y_test.npy"),
    }[damage]()
    with pytest.raises(DataError, match=r"scans\.npz is damaged, or no file of numpy\.savez") as caught:
        source.load(tmp_path, "given")
    assert "\n" not in str(caught.value)


def _with_member(path: Path, name: str) -> None:
    """Write the file again, one array of it with more bytes than its header says."""
    with zipfile.ZipFile(path) as archive:
        content = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in content.items():
            archive.writestr(each, data + b"more" * (each == name))


def test_a_file_that_is_not_there_or_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    for name, expected in (("no.npz", "there is no file"), ("folder.npz", "folder.npz cannot be read: Is a directory")):
        with pytest.raises(DataError, match=expected):
            _ = find("dataset", f"./{name}", tmp_path).make().INFO


def test_arrays_that_do_not_fit_into_memory_are_refused_by_their_headers() -> None:
    huge = {"x_train": np.broadcast_to(np.float64(0), (10**9, 10**6))}
    with pytest.raises(DataError, match=r"scans: its arrays take 7,450,580.6 GiB of memory, and \S+"):
        arrays.require_memory("scans", huge)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def load(): return [1, 2]", "own_data.py:load returns list; it must return a mapping with x_train"),
        ("def load(): return None", "own_data.py:load returns NoneType"),
        ("def load(): 1 / 0", r"own_data.py:load: ZeroDivisionError: division by zero \(own_data.py, line 1\)"),
        ("def load():\n    import json\n    json.loads('x')", r"Expecting value: .* \(own_data.py, line 3\)"),
        ("def load():\n    import sys\n    sys.exit('no')", r"SystemExit: no \(own_data.py, line 3\)"),
        ("def load(): return {'x_train': [[1], [1, 2]]}", "x_train cannot be made an array: setting an array element"),
        ("def load(): return {'x_train': [object()]}", "y_train is missing"),
    ],
)
def test_a_function_that_does_otherwise_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "own_data.py").write_text(text)
    with pytest.raises(DataError, match=expected) as caught:
        _ = find("dataset", "./own_data.py:load", tmp_path).make().INFO
    assert "\n" not in str(caught.value)


def test_a_dataset_that_is_neither_data_nor_loads_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own_data.py").write_text("load = 3\nclass Scans: pass\n")
    for name in ("./own_data.py:load", "./own_data.py:Scans"):
        with pytest.raises(SuiteError, match="has no INFO"):
            find("dataset", name, tmp_path).make()
    with pytest.raises(FedbenchError, match=r"unknown dataset 'scans'; choose from"):
        find("dataset", "scans", tmp_path)
