"""The field `pixels`: how 8-bit images are scaled, wherever a model is given them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import fedbench_here
from jobs import WORK, make_jobs, make_runs
from tiny_study import storage_in, tiny_plan, tiny_work

from fedbench.datasets import Dataset
from fedbench.executors import in_process
from fedbench.runs.clients import clients_of
from fedbench.runs.data import DataSource
from fedbench.runs.suite_run import run_suite
from fedbench.suites.cell import CellSpec
from fedbench.tracking.memory import MemoryTracker

UNIT: dict[str, Any] = {"pixels": "unit"}


@pytest.fixture(scope="module")
def data() -> DataSource:
    return DataSource()


@pytest.fixture(scope="module")
def unit(data: DataSource) -> Dataset:
    return data.dataset(CellSpec(**UNIT))


def test_pixels_are_fractions_of_white_and_the_data_is_the_same(data: DataSource, unit: Dataset) -> None:
    standardised = data.dataset(CellSpec())
    assert torch.equal(unit.test_images / 255, unit.normalise(unit.test_images))
    assert pytest.approx((1 - 0.1307) / 0.3081) == standardised.normalise(standardised.test_images).max().item()
    assert standardised.digest == unit.digest
    assert standardised.train_images is unit.train_images


def test_clients_and_the_validation_split_are_scaled(unit: Dataset, tmp_path: Path) -> None:
    (run,) = make_runs(1, **UNIT)
    assert (0.0, 1.0) == tuple(each.item() for each in clients_of(run, unit, torch.device("cpu"))[0].inputs.aminmax())
    plan = tiny_plan(tmp_path)
    work = tiny_work(replace(plan, spec=plan.spec.replace(UNIT)), storage_in(tmp_path))
    assert (0.0, 1.0) == tuple(each.item() for each in work.examples[0].aminmax())


def test_two_scalings_of_one_dataset_are_two_objects_for_other_machines() -> None:
    with WORK.portable() as of:
        names = [of(job)[0] for fields in ({}, UNIT, {}) for job in make_jobs(1, **fields)]
    assert [names[0], names[0]] == [names[0], names[2]]
    assert names[0] != names[1]


def test_a_run_is_scored_and_its_model_stored_with_its_own_scaling(data: DataSource) -> None:
    tracker, runs = MemoryTracker(), [run for fields in ({}, UNIT) for run in make_runs(1, **fields)]
    standardised, unit = (done.result.metrics for done in run_suite(runs, data, tracker, in_process.execute))
    assert standardised["loss"] != unit["loss"]
    first, second = (run.final for run in tracker.runs)
    assert first.example is not None
    assert second.example is not None
    assert 1.0 == second.example.max() < first.example.max()
    assert first.model_name != second.model_name  # models of one name share their example


OF_FLOATS = """
name: floats
question: Is it refused?
seeds: [0]
scenarios: [{name: a, dataset: ./scans.npz, pixels: unit, model: ./own.py:net, rounds: 1}]
"""


@pytest.mark.parametrize("command", ["run", "tune"])
def test_other_inputs_than_images_are_refused_in_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\ndef net(): return nn.Linear(2, 2)\n")
    x, y = np.zeros((40, 2)), np.arange(40) % 2
    np.savez(tmp_path / "scans.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "floats.yaml").write_text(OF_FLOATS)
    done = fedbench_here(command, "floats.yaml", "--workers", "1", folder=tmp_path)
    assert 2 == done.code
    (line,) = done.err.strip().splitlines()
    assert line.startswith("fedbench: error: dataset ")
    assert line.endswith("leave pixels out")
