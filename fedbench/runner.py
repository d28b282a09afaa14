"""A suite's runs recorded: the finished are skipped, the rest go to an executor, and what comes back is tracked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from fedbench.datasets import Dataset, load_dataset
from fedbench.errors import FedbenchError, SuiteError, one_line
from fedbench.measures import RunResult, Verdict
from fedbench.models import build_model
from fedbench.simulation import Event, RoundDone, RunDone, Started, State
from fedbench.specs import CellSpec, RunSpec
from fedbench.tracking import TrackedRun, Tracker

ALGORITHM_REVISION = 1  # raise it with every change that moves a number of an unchanged spec on unchanged data
EXAMPLES_WITH_MODEL = 2  # test images that are stored beside a model as its input example

Executor = Callable[[Sequence[RunSpec], "DataSource"], Iterator[Event]]


@dataclass(frozen=True)
class Outcome:
    """A run and what came of it. `executed` is false for a run that was skipped."""

    run: RunSpec
    result: RunResult
    executed: bool


@dataclass(frozen=True)
class DataSource:
    """Datasets from one folder, each loaded once a process; and the device that they are used on."""

    folder: Path | None = None
    device: str = "cpu"
    _loaded: dict[tuple[str, str], Dataset] = field(default_factory=dict, compare=False, repr=False)

    def dataset(self, spec: CellSpec) -> Dataset:
        """The dataset that `spec` names, in its split."""
        key = (spec.dataset, spec.split)
        if key not in self._loaded:
            self._loaded[key] = load_dataset(*key, self.folder)
        return self._loaded[key]

    def load(self, runs: Iterable[RunSpec]) -> None:
        """Load all that `runs` need, so that missing or damaged data is found before anything is recorded."""
        for spec in dict.fromkeys(run.spec for run in runs):
            if spec.shortfall() is None:
                self.dataset(spec)


def run_suite(
    runs: Iterable[RunSpec], data: DataSource, tracker: Tracker, execute: Executor, fresh: bool = False
) -> Generator[Outcome, None, None]:
    """Yield each run's outcome as it is known: first those that are skipped, then the others as they end.

    Parameters
    ----------
    runs
        The runs of one suite.
    data
        Where their datasets come from.
    tracker
        Where they are recorded, and which runs it has already.
    execute
        Computes the runs that are left (see `fedbench.executors`).
    fresh
        Compute also what the tracker has already.
    """
    left: dict[RunSpec, str] = {}
    finished = {} if fresh else tracker.finished_runs()
    for run in runs:
        if shortfall := run.spec.shortfall():
            yield Outcome(run, RunResult(Verdict.SKIPPED, shortfall), executed=False)
            continue
        identity = fingerprint(run, data.dataset(run.spec).digest, data.device)
        if identity in finished:
            yield Outcome(run, finished[identity], executed=False)
        else:
            left[run] = identity
    yield from _track(left, data, tracker, execute)


def _track(left: Mapping[RunSpec, str], data: DataSource, tracker: Tracker, execute: Executor) -> Iterator[Outcome]:
    open_runs: dict[RunSpec, TrackedRun] = {}
    try:
        for event in execute(list(left), data):
            run = event.run
            if isinstance(event, Started) and run in open_runs:  # its worker died, and another one begins anew
                open_runs.pop(run).kill("the worker process died; the run was started again")
            if run not in open_runs:  # a worker can die before it says that it started
                open_runs[run] = tracker.start_run(run, left[run], data.dataset(run.spec))
            if isinstance(event, RoundDone):
                open_runs[run].log_round(event.round, event.metrics)
            elif isinstance(event, RunDone):
                outcome = Outcome(run, _finish(event, open_runs[run], data), executed=True)
                del open_runs[run]
                yield outcome
    finally:  # empty unless something was raised or the consumer went away
        for tracked in open_runs.values():
            with suppress(FedbenchError):  # of a store that is gone, the first error is the one to show
                tracked.kill("interrupted")


def _finish(done: RunDone, tracked: TrackedRun, data: DataSource) -> RunResult:
    result = done.result
    try:
        if done.state is not None:
            _log_model(done.run.spec, done.state, tracked, data.dataset(done.run.spec))
    except FedbenchError:
        raise
    except Exception as error:  # a model that cannot be exported costs its run, not the suite
        result = replace(result, verdict=Verdict.FAILED, reason=f"its model cannot be stored: {one_line(error)}")
    tracked.finish(result)
    return result


def _log_model(spec: CellSpec, state: State, tracked: TrackedRun, dataset: Dataset) -> None:
    model = build_model(spec.model)
    model.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in state.items()})
    example = dataset.normalise(dataset.test_images[:EXAMPLES_WITH_MODEL]).numpy()
    tracked.log_model(model, example, len(dataset.class_names))


def choose_device(name: str) -> str:
    """The device that `name` means here: ``auto`` takes a GPU where there is one.

    Raises
    ------
    SuiteError
        If the name is unknown or this machine has no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name):
        here = ", ".join(device for device, there in available.items() if there)
        raise SuiteError(f"--device {name}: this machine has {here}; choose one of them or auto")
    return name


def fingerprint(run: RunSpec, dataset_digest: str, device: str) -> str:
    """The identity of a run's numbers: SHA-256 over all that can move one.

    That is the scenario's name and the cell's spec, the seed, the data's content, the kind of device and
    `ALGORITHM_REVISION`.
    """
    content = {
        "scenario": run.scenario,
        "spec": run.spec.model_dump(mode="json"),
        "seed": run.seed,
        "data": dataset_digest,
        "device": device,
        "revision": ALGORITHM_REVISION,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
