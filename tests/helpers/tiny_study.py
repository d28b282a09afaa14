"""A study of the smallest size that trains something, and what computes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from fedbench.datasets import Dataset
from fedbench.datasets.validation import load_held_out
from fedbench.suites.loading import load_suite
from fedbench.tuning.compute import Work, compute
from fedbench.tuning.plan import Plan, identity, make_plan
from fedbench.tuning.results import TrialResult
from fedbench.tuning.search import trial_results
from fedbench.tuning.storage import open_storage, open_study

SUITE = """
name: tiny
question: Does it search?
seeds: [0, 1]
defaults: {examples_per_client: 20, rounds: 3, local_epochs: 1, learning_rate: 0.01}
scenarios:
  - {name: pair, num_clients: 2}
tune:
  space:
    learning_rate: {low: 0.001, high: 1.0}
    local_epochs: {low: 1, high: 3}
  seeds: [0, 1]
  fresh_seeds: [10, 11, 12]
  validation: 0.05
"""


def tiny_plan(folder: Path, trials: int = 4, **changes: Any) -> Plan:
    path = folder / "tiny.yaml"
    path.write_text(SUITE)
    return replace(make_plan(load_suite(path), trials=trials), **changes)


def tiny_work(plan: Plan, storage: str) -> Work:
    return Work(plan, identity(plan, held_out_of(plan).digest, "cpu", 1), storage, None, "cpu")


def held_out_of(plan: Plan) -> Dataset:
    return load_held_out(plan.spec.dataset, plan.spec.split, plan.validation)


def compute_tiny(work: Work, study: optuna.Study, num_workers: int = 1) -> Iterator[None]:
    return compute(work, study, held_out_of(work.plan), num_workers)


def open_tiny(work: Work) -> optuna.Study:
    return open_study(open_storage(work.storage), work.plan, work.identity)


def computed(plan: Plan, storage: str, num_workers: int = 1) -> tuple[TrialResult, ...]:
    """The trials of a plan, computed until there are enough."""
    work = tiny_work(plan, storage)
    study = open_tiny(work)
    for _ in compute_tiny(work, study, num_workers):
        pass
    return trial_results(study, plan)


def storage_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'optuna.db'}"
