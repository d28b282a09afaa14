"""That everything in the tables is there and fits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import fedbench
from fedbench.core import FlatModel
from fedbench.datasets import DATASETS, dataset_info, dataset_module
from fedbench.models import MODELS, build_model
from fedbench.partitions import PARTITIONS, TrainingTable, make_partition
from fedbench.suites.loading import list_suites, load_suite

PACKAGE = Path(fedbench.__file__).parent


def python(script: str, folder: Path, *path: Path) -> str:
    search_path = os.pathsep.join(map(str, path or (PACKAGE.parent,)))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": search_path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_importing_fedbench_and_listing_its_tables_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys, fedbench\n"
        "from fedbench.datasets import DATASETS, dataset_statuses\n"
        "from fedbench.models import MODELS\n"
        "from fedbench.partitions import PARTITIONS\n"
        "from fedbench.suites.loading import list_suites, load_suite\n"
        "assert list(DATASETS) and list(MODELS) and list(PARTITIONS) and dataset_statuses()\n"
        "assert [load_suite(path) for path in list_suites().values()]\n"
        "print(sorted({'torch', 'mlflow'} & set(sys.modules)))\n"
    )
    assert "[]\n" == python(script, tmp_path)


# The tables


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_its_module_with_four_functions(name: str) -> None:
    module = dataset_module(name)
    assert all(callable(getattr(module, function)) for function in ("load", "fetch", "verify", "is_present"))
    assert all(train > 0 and test > 0 for train, test in dataset_info(name).sizes.values())


@pytest.mark.parametrize("name", PARTITIONS)
def test_every_partition_deals_parts_of_the_wanted_size_which_are_disjoint_if_they_do_not_overlap(name: str) -> None:
    groups = np.array(list("abcd" * 10 + "abcdefghij"))
    table = TrainingTable(np.arange(50) % 5, 5, {"group": groups})
    info = PARTITIONS[name]
    own = {"quantity-skew": {"partition_sigma": 1.0}, "by-column": {"partition_column": "group"}}
    options = {**info.options, **own.get(name, {})}
    parts = make_partition(name, table, 4, 10, np.random.default_rng(0), options)
    sizes = [len(set(part.tolist())) for part in parts]
    assert [len(part) for part in parts] == sizes
    assert not info.is_equal or sizes == [10] * 4
    dealt = np.concatenate(list(parts))
    total = 44 if name == "by-column" else 40  # its groups are as large as they are
    assert total == sum(sizes)
    assert (total == len(set(dealt.tolist()))) != info.is_overlapping
    assert set(dealt.tolist()) <= set(range(50))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_fits_its_declared_shapes(name: str) -> None:
    info = MODELS[name]
    module, _, _ = info.target.partition(":")
    assert find_spec(f"fedbench.models.{module}") is not None
    model = build_model(name)
    with torch.no_grad():
        output = model(torch.zeros(2, *info.image_shape))
    assert ((2, info.num_classes), torch.float32) == (tuple(output.shape), output.dtype)
    torch.testing.assert_close(output[0], output[1])
    FlatModel(model)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_drawn_from_the_global_random_state(name: str) -> None:
    def draw(seed: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.cat([parameter.flatten() for parameter in build_model(name).parameters()])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_the_studys_networks_have_the_studys_numbers_of_parameters() -> None:
    def dense(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    # 5x5 convolutions have 25 weights for each pair of channels, and a bias each
    mnist = (25 * 1 * 10 + 10) + (25 * 10 * 20 + 20) + dense(20 * 4 * 4, 50) + dense(50, 10)
    ham = (25 * 3 * 16 + 16) + (25 * 16 * 32 + 32) + dense(32 * 5 * 5, 120) + dense(120, 7)
    assert (21_840, 111_015) == (mnist, ham)
    found = [sum(each.numel() for each in build_model(name).parameters()) for name in ("simple-cnn", "simple-cnn-ham")]
    assert [mnist, ham] == found


@pytest.mark.parametrize("name", list_suites())
def test_every_shipped_suite_loads_and_none_of_its_cells_is_beyond_its_data(name: str) -> None:
    suite = load_suite(name)
    assert name == suite.name
    assert [] == [cell.label for cell in suite.cells if cell.spec.shortfall()]


def test_every_module_imports_and_says_what_it_is_for() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "__main__.py":
            continue
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = import_module(".".join(part for part in parts if part != "__init__"))
        assert module.__doc__, path


# Extending


MODEL = '''"""The paper's simplest idea of a model: one dense layer."""

import torch
from torch import Tensor, nn


class Dense(nn.Module):
    """(B, 1, 4, 4) float32 -> (B, 2) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.layer(torch.flatten(x, 1))
'''

DATASET = '''"""Bright and dark images of 4x4 pixels."""

from pathlib import Path

import numpy as np

from fedbench.datasets import Dataset, DatasetInfo
from fedbench.datasets.content import make_dataset

INFO = DatasetInfo((1, 4, 4), 2, {"halves": (100, 50)}, "CC0-1.0", "nobody", "https://example.org")


def load(data_dir: Path, split: str) -> Dataset:
    """Make the images."""
    stream = np.random.default_rng(0)
    labels = np.arange(150) % 2
    images = (stream.integers(0, 100, (150, 1, 4, 4)) + 150 * labels[:, None, None, None]).astype("uint8")
    parts = ((images[rows], labels[rows]) for rows in (slice(100), slice(100, None)))
    return make_dataset("bright", split, *parts, (0.5,), (0.5,), ("dark", "bright"))


def fetch(data_dir: Path, source: Path | None = None) -> None:
    """Nothing to fetch."""


def verify(data_dir: Path) -> None:
    """Nothing to verify."""


def is_present(data_dir: Path) -> bool:
    """Always."""
    return True
'''

SUITE = """
name: bright
question: Is bright told from dark?
seeds: [0, 1]
defaults: {dataset: bright, model: dense, batch_size: 10, learning_rate: 0.5}
scenarios: [{name: pair, examples_per_client: 50, rounds: 3}]
"""


def add_line(path: Path, table: str, line: str) -> None:
    """Add a line to a table: after the one that opens it."""
    text = path.read_text()
    (opening,) = (each for each in text.splitlines() if each.startswith(f"{table}: dict") and "= {" in each)
    path.write_text(text.replace(opening, f"{opening}\n    {line}"))


def test_a_model_and_a_dataset_are_one_file_and_one_line_each_and_a_suite_is_one_file(tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "fedbench"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "models" / "dense.py").write_text(MODEL)
    add_line(copy / "models" / "__init__.py", "MODELS", '"dense": ModelInfo("dense:Dense", (1, 4, 4), 2),')
    (copy / "datasets" / "bright.py").write_text(DATASET)
    add_line(copy / "datasets" / "__init__.py", "DATASETS", '"bright": "bright",')
    (tmp_path / "bright.yaml").write_text(SUITE)
    script = (
        "from fedbench.executors import in_process\n"
        "from fedbench.runs.data import DataSource\n"
        "from fedbench.runs.suite_run import run_suite\n"
        "from fedbench.suites.loading import load_suite\n"
        "from fedbench.tracking.memory import MemoryTracker\n"
        "runs = load_suite('bright.yaml').runs\n"
        "for outcome in run_suite(runs, DataSource(), MemoryTracker(), in_process.execute):\n"
        "    print(outcome.result.verdict, outcome.result.metrics['accuracy'])\n"
    )
    assert "ok 1.0\nok 1.0\n" == python(script, tmp_path, copy.parent)
