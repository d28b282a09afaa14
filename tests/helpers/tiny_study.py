"""A study of the smallest size that trains something, and what computes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from fedbench.executors import choose_executor
from fedbench.suites.loading import load_suite
from fedbench.tuning.plan import Plan, identity, make_plan
from fedbench.tuning.results import TrialResult
from fedbench.tuning.search import Search, trial_results
from fedbench.tuning.storage import lock_folder, open_storage, open_study
from fedbench.tuning.trial import TrialWork

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


def tiny_work(plan: Plan, storage: str) -> TrialWork:
    return TrialWork(plan, identity(plan, "of the data", "cpu", 1), storage, None, "cpu")


def tiny_search(work: TrialWork, deadline: float | None = None) -> Search:
    storage = open_storage(work.storage)
    study = open_study(storage, work.plan, work.identity)
    locks = lock_folder(work.storage, "sqlite:///mlruns/mlflow.db")
    return Search(storage, study, work.plan, locks, deadline)


def compute_tiny(work: TrialWork, search: Search | None = None, num_workers: int = 1) -> Iterator[None]:
    return (search or tiny_search(work)).compute(choose_executor(num_workers), work)


def computed(plan: Plan, storage: str, num_workers: int = 1) -> tuple[TrialResult, ...]:
    """The trials of a plan, computed until there are enough."""
    work = tiny_work(plan, storage)
    search = tiny_search(work)
    for _ in compute_tiny(work, search, num_workers):
        pass
    return trial_results(search.study, plan)


def study_of(work: TrialWork) -> optuna.Study:
    """The study as another command sees it."""
    return tiny_search(work).study


def storage_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'optuna.db'}"
