"""A suite's runs: the finished are skipped, the cut off go on, and what an executor computes is recorded."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedbench.measures import RunResult, Verdict
from fedbench.runs.data import DataSource
from fedbench.runs.events import Job, RoundDone, RunDone
from fedbench.runs.identity import fingerprint
from fedbench.runs.traces import part
from fedbench.runs.work import Executor as Executor
from fedbench.runs.work import RunWork
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.tracking import TrackedRun, Tracker
from fedbench.util.errors import CheckpointError, FedbenchError, one_line
from fedbench.util.files import remove

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.runs.checkpoints import Checkpoint

EXAMPLES_WITH_MODEL = 2  # test images that are stored beside a model as its input example

logger = logging.getLogger("fedbench")


@dataclass(frozen=True)
class Outcome:
    """A run and what came of it.

    Attributes
    ----------
    result
        None if another process works on the run.
    executed
        Whether it was computed now.
    """

    run: RunSpec
    result: RunResult | None
    executed: bool


def run_suite(
    runs: Iterable[RunSpec],
    data: DataSource,
    tracker: Tracker,
    execute: Executor,
    fresh: bool = False,
    store_models: bool = True,
) -> Generator[Outcome, None, None]:
    """Yield each run's outcome as it is known: first those that are skipped, then the others as they end.

    A run that was cut off goes on from its checkpoint. One that another live process works on is left to it.

    Parameters
    ----------
    runs
        The runs of one suite.
    data
        Where their datasets come from.
    tracker
        Where they are recorded, and which runs it has already. It is closed at the end.
    execute
        Computes the runs that are left (see `fedbench.executors`).
    fresh
        Compute also what the tracker has already, from the start.
    store_models
        Whether the final model of each run is recorded.
    """
    try:
        yield from _SuiteRun(data, tracker, fresh, store_models).outcomes(runs, execute)
    finally:
        tracker.close()


class _SuiteRun:
    """The runs of a suite while they are executed and recorded."""

    def __init__(self, data: DataSource, tracker: Tracker, fresh: bool, store_models: bool) -> None:
        self.data = data
        self.tracker = tracker
        self.fresh = fresh
        self.store_models = store_models
        self.open: dict[RunSpec, TrackedRun] = {}
        self.jobs: dict[RunSpec, Job] = {}
        self.known: list[Outcome] = []  # what came of runs that were not computed here

    def outcomes(self, runs: Iterable[RunSpec], execute: Executor) -> Iterator[Outcome]:
        possible = []
        for run in runs:
            if shortfall := run.spec.shortfall():
                yield Outcome(run, RunResult(Verdict.SKIPPED, shortfall), executed=False)
            else:
                possible.append(run)
        finished = {} if self.fresh else self.tracker.finished_runs()
        left = self._left(possible, finished)
        self.data.load(job.run.spec for job in left)
        left = self._left(possible, finished)  # now by what was loaded, should it differ from what was published
        self.known = [
            Outcome(run, finished[job.fingerprint], executed=False)
            for run, job in self.jobs.items()
            if job.fingerprint in finished
        ]
        for job in self.jobs.values():
            if job.fingerprint in finished and job.checkpoint:
                remove(job.checkpoint)  # the process that finished it was killed before it could
        cells: dict[str, list[str]] = defaultdict(list)
        for job in self.jobs.values():
            cells[job.cell_fingerprint].append(job.fingerprint)
        awaited = {cell: len(of_cell) for cell, of_cell in cells.items()}
        for outcome in self._executed(left, execute):
            cell = self.jobs[outcome.run].cell_fingerprint
            awaited[cell] -= 1
            if awaited[cell] == 0:
                with part("tracking"):
                    self.tracker.finish_cell(cell, cells[cell])
            yield outcome

    def _left(self, runs: Iterable[RunSpec], finished: Container[str]) -> list[Job]:
        """The jobs that are not finished; all of them are laid out anew."""
        self.jobs = {run: self._job(run) for run in runs}
        return [job for job in self.jobs.values() if job.fingerprint not in finished]

    def _job(self, run: RunSpec) -> Job:
        digest, folder = self.data.digest(run.spec), self.tracker.checkpoints
        identity = fingerprint(run, digest, self.data.device)
        path = folder / f"{identity}.ckpt" if folder else None
        return Job(run, identity, fingerprint(run, digest, self.data.device, of_cell=True), path)

    def _executed(self, left: Sequence[Job], execute: Executor) -> Iterator[Outcome]:
        yield from self._take_known()
        if not left:
            return
        try:
            for event in execute(self._begun(left), RunWork(self.data)):
                yield from self._take_known()
                tracked = self.open[event.run]
                if isinstance(event, RoundDone):
                    with part("tracking"):
                        tracked.log_round(event.round, event.metrics)
                else:
                    with part("tracking"):
                        outcome = self._finish(event, tracked)
                    del self.open[event.run]
                    yield outcome
            yield from self._take_known()
        finally:  # empty unless something was raised or the consumer went away
            for tracked in self.open.values():
                with suppress(FedbenchError):  # of a store that is gone, the first error is the one to show
                    tracked.kill("interrupted")

    def _take_known(self) -> Iterator[Outcome]:
        while self.known:
            yield self.known.pop(0)

    def _begun(self, left: Sequence[Job]) -> Iterator[Job]:
        """The jobs that are ours to compute, each begun in the tracker when it is asked for."""
        for job in left:
            rounds = self._rounds_kept(job)
            dataset = self.data.dataset(job.run.spec)
            started = self.tracker.start_run(
                job.run, job.fingerprint, job.cell_fingerprint, dataset, rounds, self.fresh
            )
            if started is None or isinstance(started, RunResult):
                self.known.append(Outcome(job.run, started, executed=False))
            else:
                if rounds == 0 and job.checkpoint:
                    remove(job.checkpoint)
                self.open[job.run] = started
                yield job

    def _rounds_kept(self, job: Job) -> int:
        """After how many rounds a run can go on; 0 if it has to start anew."""
        from fedbench.runs.checkpoints import load_checkpoint

        if job.checkpoint is None or self.fresh:
            return 0
        try:
            checkpoint = load_checkpoint(job.checkpoint, job.fingerprint)
        except CheckpointError as error:
            logger.warning("fedbench: %s: %s seed=%d starts anew", error, job.run.cell, job.run.seed)
            return 0
        return checkpoint.round if checkpoint else 0

    def _finish(self, done: RunDone, tracked: TrackedRun) -> Outcome:
        result = done.result
        if not tracked.is_ours():  # this process was asleep, and another one took the run up
            return Outcome(done.run, None, executed=False)
        try:
            if done.final is not None:
                self._log_final(done, done.final, tracked)
                if self.store_models:
                    _log_model(done.run.spec, done.final, tracked, self.data.dataset(done.run.spec))
        except FedbenchError:
            raise
        except Exception as error:  # a model that cannot be exported costs its run, not the suite
            result = replace(result, verdict=Verdict.FAILED, reason=f"its model cannot be stored: {one_line(error)}")
        tracked.finish(result)
        if (path := self.jobs[done.run].checkpoint) is not None:
            remove(path)
        return Outcome(done.run, result, executed=True)

    def _log_final(self, done: RunDone, final: Checkpoint, tracked: TrackedRun) -> None:
        """Record what is known at the end alone."""
        from fedbench.runs.clients import partition_table

        dataset = self.data.dataset(done.run.spec)
        if final.interpolation:
            tracked.log_interpolation(final.interpolation)
        tracked.log_confusion(final.confusion.numpy(), dataset.class_names)
        tracked.log_partition(partition_table(done.run, dataset))


def _log_model(spec: CellSpec, final: Checkpoint, tracked: TrackedRun, dataset: Dataset) -> None:
    from fedbench.core import model_with

    model = spec.build_model()
    model.load_state_dict(model_with(final.server.model, like=model).state_dict())
    example = dataset.normalise(dataset.test_images[:EXAMPLES_WITH_MODEL]).numpy()
    part = spec.component("model")
    alike = (part.name, *spec.options_of("model").items(), part.digest or "built in")  # one program serves these
    tracked.log_model(str(alike), model, example, len(dataset.class_names))
