"""Suites on data of a user's, from the file to the end of its runs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import Done, fedbench_here
from PIL import Image

from fedbench.measures import Verdict
from fedbench.runs.data import DataSource
from fedbench.runs.events import Job, RunDone
from fedbench.runs.identity import fingerprint
from fedbench.runs.work import RunWork
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import RunSpec

NETS = """
from torch import nn


class Linear(nn.Module):
    def __init__(self, inputs: int, classes: int = 2):
        super().__init__()
        self.layer = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 4)
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(self.embedding(x).mean(1))
"""
DATA = """
import numpy as np


def load(shift: float, as_tokens: bool = False):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.normal(size=(60, 5)) + shift * y[:, None]
    if as_tokens:
        x = rng.integers(0, 25, (60, 5)) + 25 * y[:, None]
    return {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
"""
SUITE = """
name: own-data
question: Does it run?
seeds: [0]
defaults: {learning_rate: 0.5, rounds: 2, local_epochs: 2, batch_size: 5, model: ./nets.py:Linear}
scenarios:
  - {name: file, dataset: ./scans.npz, inputs: 5}
  - {name: hospitals, dataset: ./scans.npz, inputs: 5, partition: by-column, partition_column: hospital, num_clients: 4}
  - {name: pictures, dataset: ./photos, picture_channels: 1, inputs: 64}
  - {name: function, dataset: ./own_data.py:load, shift: [0.0, 9.0], inputs: 5}
  - {name: tokens, dataset: ./own_data.py:load, shift: 0, as_tokens: true, model: ./nets.py:Tokens}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own-data")
    (folder / "nets.py").write_text(NETS)
    (folder / "own_data.py").write_text(DATA)
    (folder / "own.yaml").write_text(SUITE)
    y = np.arange(60) % 2
    x = np.random.default_rng(0).normal(size=(60, 5)) + 9 * y[:, None]
    hospitals = np.rec.fromarrays([[f"h{number % 4}" for number in range(40)]], names="hospital")
    np.savez(
        folder / "scans.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:],
        names=["ill", "well"], columns=hospitals,
    )  # fmt: skip
    for half, count in (("train", 20), ("test", 5)):
        for label, name in enumerate(("dark", "light")):
            (folder / "photos" / half / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((8, 8, 3), 20 + 200 * label + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / half / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> Done:
    return fedbench_here("run", "own.yaml", "--workers", "1", "--no-models", "--json", folder=folder)


def test_a_suite_on_own_data_runs_to_its_end(done: Done) -> None:
    assert 0 == done.code, done.err
    accuracy = {cell["label"]: cell["accuracy"]["mean"] for cell in json.loads(done.out)["cells"]}
    assert 0.9 > accuracy.pop("function shift=0.0") > 0.1
    assert accuracy == dict.fromkeys(
        ("file", "hospitals", "pictures", "function shift=9.0", "tokens"), pytest.approx(1, abs=0.3)
    )


def test_the_data_is_named_in_mlflow(folder: Path, done: Done) -> None:
    from mlflow import MlflowClient

    assert 0 == done.code
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    (run,) = client.search_runs(["1"], "tags.`fedbench.cell` = 'hospitals' and tags.`fedbench.kind` = 'run'")
    (given,) = run.inputs.dataset_inputs
    assert "scans.npz/given" == given.dataset.name
    assert {"image_shape": [5], "classes": ["ill", "well"]} == json.loads(given.dataset.schema)["fedbench"]
    assert (folder / "scans.npz").as_uri() == json.loads(given.dataset.source)["uri"]


def test_a_listing_reads_headers_and_labels_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedbench.datasets import function, npz, pictures

    read: list[str] = []
    monkeypatch.setattr(function.FunctionDataset, "_arrays", lambda _: pytest.fail("called"))
    monkeypatch.setattr(pictures.PictureDataset, "decoded", lambda *_: pytest.fail("decoded"))
    taken = npz.read
    monkeypatch.setattr(npz, "read", lambda path, keys=(): (read.extend(keys), taken(path, keys))[1])
    suite = load_suite(folder / "own.yaml")
    assert (6, 40) == (len(suite.cells), suite.cells[0].spec.available)
    assert {"y_train", "y_test", "names"} == set(read)


def runs_of(path: Path) -> dict[str, RunSpec]:
    return {run.cell: run for run in load_suite(path).runs}


def identities(path: Path) -> dict[str, str]:
    data = DataSource(path.parent / "data")
    return {cell: fingerprint(run, data.digest(run.spec), "cpu") for cell, run in runs_of(path).items()}


def test_the_content_of_a_file_is_a_runs_identity_and_its_path_is_not(folder: Path, tmp_path: Path) -> None:
    before = identities(folder / "own.yaml")
    for name in ("nets.py", "own_data.py"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with np.load(folder / "scans.npz") as content:
        arrays = dict(content)
    np.savez_compressed(tmp_path / "again.npz", **arrays)
    (folder / "photos").rename(tmp_path / "pictures")
    try:
        text = SUITE.replace("./scans.npz", "./again.npz").replace("./photos", "./pictures")
        (tmp_path / "own.yaml").write_text(text)
        assert before == identities(tmp_path / "own.yaml")
        arrays["x_test"][0, 0] += 1
        np.savez(tmp_path / "again.npz", **arrays)
        changed = identities(tmp_path / "own.yaml")
    finally:
        (tmp_path / "pictures").rename(folder / "photos")
    assert {"file", "hospitals"} == {cell for cell, found in changed.items() if found != before[cell]}


def test_a_run_whose_data_has_changed_meanwhile_fails_and_says_so(folder: Path) -> None:
    run = runs_of(folder / "own.yaml")["file"]
    work, digest = RunWork(DataSource(folder / "data")), DataSource().digest(run.spec)
    *_, end = work.compute(Job(run, data=digest), lambda: 1)
    assert isinstance(end, RunDone)
    assert Verdict.FAILED != end.result.verdict
    (end,) = work.compute(replace(Job(run), data="of other data"), lambda: 1)
    assert isinstance(end, RunDone)
    assert (Verdict.FAILED, "dataset ./scans.npz is not what the command loaded") == (
        end.result.verdict,
        str(end.result.reason).partition(";")[0],
    )


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("dataset=./no.npz", "own.yaml: --set: dataset: there is no file"),
        ("dataset=./no-photos", "dataset: there is no folder"),
        ("dataset=./own.yaml", "dataset: own.yaml/train cannot be read: Not a directory"),
        ("dataset=torchvision:CIFAR1000", "dataset: unknown classification dataset of torchvision"),
        ("picture_size=4", "picture_size is 4; it must be at least 5"),
        ("picture_channels=2", "unknown picture_channels 2; choose from 1, 3, null"),
        ("split=test", "split: unknown split of ./scans.npz 'test'; choose from given"),
    ],
)
def test_what_is_wrong_with_own_data_is_one_line_of_the_suite(folder: Path, setting: str, expected: str) -> None:
    done = fedbench_here("run", "own.yaml", "--set", setting, folder=folder)
    assert 2 == done.code
    assert expected in done.err
    assert 1 == done.err.count("\n"), done.err


def test_a_built_in_model_that_does_not_take_the_data_is_refused(folder: Path) -> None:
    (folder / "two.yaml").write_text(
        "name: two\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, dataset: ./scans.npz, model: 2nn}]\n"
    )
    done = fedbench_here("run", "two.yaml", folder=folder)
    expected = "model: 2nn takes 1x28x28 images of 10 classes, but dataset ./scans.npz has 5 inputs of 2 classes"
    assert (2, True) == (done.code, expected in done.err)


def test_what_is_known_of_own_data_is_known_without_torch(folder: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from fedbench.components import find
for name in ("./scans.npz", "./photos"):
    assert 2 == find("dataset", name, Path({str(folder)!r})).make().INFO.num_classes
find("dataset", "torchvision:CIFAR100").make()
assert not {{"torch", "torchvision"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_forms_of_own_data_are_listed_with_their_options() -> None:
    from fedbench.suites.catalogue import list_parts

    listed = {part.name: [option.name for option in part.options or ()] for part in list_parts("dataset")}
    assert [] == listed["./FILE.npz"]
    assert ["picture_size", "picture_channels"] == listed["./FOLDER"] == listed["torchvision:NAME"]
