"""A suite's runs: finished ones are skipped, interrupted ones resume, and what an executor computes is recorded."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.measures import RunResult, Verdict
from fedbench.runs.computing import bits_depend_on, computed_with
from fedbench.runs.data import DataSource
from fedbench.runs.events import Job, RoundDone, RunDone
from fedbench.runs.events import Outcome as Outcome
from fedbench.runs.identity import fingerprint
from fedbench.runs.pace import Pace
from fedbench.runs.traces import part
from fedbench.runs.work import Executor as Executor
from fedbench.runs.work import RunWork
from fedbench.suites.cell import CellSpec
from fedbench.suites.schema import RunSpec
from fedbench.tracking import FinalRecord, TrackedRun, Tracker
from fedbench.util.environment import elsewhere
from fedbench.util.errors import CheckpointError, FedbenchError, one_line
from fedbench.util.files import remove
from fedbench.util.locks import Lock, lock, try_lock
from fedbench.util.once import warn_once
from fedbench.util.progress import phase

if TYPE_CHECKING:
    from fedbench.runs.checkpoints import Checkpoint

EXAMPLES_WITH_MODEL = 2  # test images that are stored with a model as its input example

logger = logging.getLogger("fedbench")


def run_suite(
    runs: Iterable[RunSpec],
    data: DataSource,
    tracker: Tracker,
    execute: Executor,
    fresh: bool = False,
    store_models: bool = True,
) -> Generator[Outcome, None, None]:
    """Yield each run's outcome as it is known: first those that are skipped, then the others as they end.

    An interrupted run resumes from its checkpoint. One that another command computes is waited for, after all others.

    Parameters
    ----------
    runs
        The runs of one suite.
    data
        Where their datasets come from.
    tracker
        Where they are recorded.
    execute
        Computes the runs that are not finished (see `fedbench.executors`).
    fresh
        Compute all runs, from the start, whether they are finished or not.
    store_models
        Whether the final model of each run is recorded.
    """
    possible = []
    for run in runs:
        if shortfall := run.spec.shortfall():
            yield Outcome(run, RunResult(Verdict.SKIPPED, shortfall), executed=False)
        else:
            possible.append(run)
    finished = {} if fresh else tracker.finished_runs()
    phase("reading data")
    jobs = _jobs(possible, data, tracker)
    data.load(job.run.spec for job in jobs.values() if job.fingerprint not in finished)
    jobs = _jobs(possible, data, tracker)  # by what was loaded, should it differ from what was published
    awaited = Counter(job.cell_fingerprint for job in jobs.values())
    others = Counter[str]()
    for outcome in _SuiteRun(jobs, data, tracker, fresh, store_models).outcomes(finished, execute):
        cell = jobs[outcome.run].cell_fingerprint
        awaited[cell] -= 1
        if awaited[cell] == 0:
            with part("tracking"):
                tracker.finish_cell(cell)
        if not outcome.executed and (other := elsewhere(outcome.result.computed_by, data.device)):
            outcome = replace(outcome, elsewhere=other)
            others[other] += 1
        yield outcome
    _warn_of_changed_files(possible)
    _warn_of_others(others)


def _jobs(runs: Iterable[RunSpec], data: DataSource, tracker: Tracker) -> dict[RunSpec, Job]:
    jobs = {}
    for run in runs:
        digest, folder = data.digest(run.spec), tracker.checkpoints
        identity = fingerprint(run, digest, data.device)
        cell_identity = fingerprint(run, digest, data.device, of_cell=True)
        checkpoint = folder / f"{identity}.ckpt" if folder else None
        computed = computed_with(run.spec, data.device)
        jobs[run] = Job(run, identity, cell_identity, checkpoint, data=digest, computed_with=computed)
    return jobs


def _warn_of_changed_files(runs: Iterable[RunSpec]) -> None:
    """Say which of the user's files are others now than when the suite was read."""
    for own in dict.fromkeys(own for run in runs for own in run.spec.parts):
        if own.has_changed:
            logger.warning(
                "fedbench: %s changed while the suite ran: its runs have it as it was at the start; run the command "
                "again for the new one",
                own.file,
            )


def _warn_of_others(others: Counter[str]) -> None:
    """Say how many finished runs something else computed, of the kinds of `fedbench.util.environment.elsewhere`."""
    if others:
        logger.warning(
            "fedbench: runs skipped as the same that were computed elsewhere: %d (%s). Their bits may differ; --fresh "
            "computes them here",
            others.total(),
            others.most_common(1)[0][0],
        )


class _SuiteRun:
    """The runs of a suite while they are executed and recorded."""

    def __init__(
        self, jobs: Mapping[RunSpec, Job], data: DataSource, tracker: Tracker, fresh: bool, store_models: bool
    ) -> None:
        self.jobs = jobs
        self.data = data
        self.tracker = tracker
        self.fresh = fresh
        self.store_models = store_models
        self.open: dict[RunSpec, tuple[TrackedRun, Lock]] = {}  # being computed, and the lock that says so
        self.known: list[Outcome] = []  # of runs that were not computed here
        self.busy: list[Job] = []  # runs that another command computes
        self.pace = Pace(())

    def outcomes(self, finished: Mapping[str, RunResult], execute: Executor) -> Iterator[Outcome]:
        left = []
        for job in self.jobs.values():
            if (result := finished.get(job.fingerprint)) is None:
                left.append(job)
            else:
                _clean_up(job)
                yield Outcome(job.run, result, executed=False)
        while left:
            yield from self._executed(left, execute)
            left, self.busy = self.busy, []
            if left:
                warn_once(self, "waiting for runs that another command computes; Ctrl-C ends that")
                lock(_lock_path(left[0])).release()

    def _executed(self, left: Sequence[Job], execute: Executor) -> Iterator[Outcome]:
        phase("starting workers")
        self.pace = Pace(job.run for job in left)
        try:
            for event in execute(self._begun(left), RunWork(self.data)):
                yield from self._take_known()
                tracked, _ = self.open[event.run]
                with part("tracking"):
                    if isinstance(event, RoundDone):
                        tracked.log_round(event.round, event.metrics)
                        self.pace.add_round(event.run, event.round, event.metrics)
                        continue
                    with self.pace.recorded(event.run):
                        outcome = self._finish(event, tracked)
                yield outcome
            yield from self._take_known()
        finally:  # nothing is open unless something was raised or the consumer went away
            for tracked, held in self.open.values():
                with suppress(FedbenchError):  # of a store that is gone, the first error is the one to show
                    tracked.kill("interrupted")
                held.release()
            self.open.clear()

    def _take_known(self) -> Iterator[Outcome]:
        while self.known:
            yield self.known.pop(0)

    def _begun(self, left: Iterable[Job]) -> Iterator[Job]:
        """The jobs that are ours to compute, each begun in the tracker when it is asked for."""
        for job in left:
            held = try_lock(_lock_path(job)) if job.checkpoint else Lock(None)
            if held is None:
                self.busy.append(job)
                self.pace.leave_out(job.run)
            elif self._begin(job, held):
                yield job

    def _begin(self, job: Job, held: Lock) -> bool:
        """Begin or resume a run, unless it turns out to be finished."""
        try:
            rounds = self._rounds_kept(job)
            held.text = held.text or secrets.token_hex(8)
            dataset = self.data.dataset(job.run.spec)
            started = self.tracker.start_run(
                job.run, job.fingerprint, job.cell_fingerprint, dataset, rounds, self.fresh, held.text
            )
        except BaseException:
            held.release()
            raise
        if isinstance(started, RunResult):
            self.known.append(Outcome(job.run, started, executed=False))
            self.pace.leave_out(job.run)
            held.remove()
            return False
        self.open[job.run] = started, held
        self.pace.begin(job.run, rounds)
        if rounds == 0 and job.checkpoint:
            remove(job.checkpoint)
        return True

    def _rounds_kept(self, job: Job) -> int:
        """After how many rounds a run can resume; 0 if it has to start over."""
        from fedbench.runs.checkpoints import load_checkpoint, require_fit

        if job.checkpoint is None or self.fresh:
            return 0
        try:
            made_by = bits_depend_on(job.computed_with)
            if checkpoint := load_checkpoint(job.checkpoint, job.fingerprint, made_by):
                require_fit(checkpoint, job.checkpoint, job.run.spec)
        except CheckpointError as error:
            logger.warning("fedbench: %s: %s seed=%d starts over", error, job.run.cell, job.run.seed)
            return 0
        return checkpoint.round if checkpoint else 0

    def _finish(self, done: RunDone, tracked: TrackedRun) -> Outcome:
        result = done.result
        try:
            if done.final is not None:
                self._log_final(done, done.final, tracked)
        except FedbenchError:
            raise
        except Exception as error:  # a model that cannot be exported costs its run, not the suite
            result = replace(result, verdict=Verdict.FAILED, reason=f"its model cannot be stored: {one_line(error)}")
        result = tracked.finish(result)
        if (path := self.jobs[done.run].checkpoint) is not None:
            remove(path)
        _, held = self.open.pop(done.run)
        held.remove()
        return Outcome(done.run, result, executed=True)

    def _log_final(self, done: RunDone, final: Checkpoint, tracked: TrackedRun) -> None:
        from fedbench.core import model_with
        from fedbench.runs.clients import partition_table

        spec, dataset = done.run.spec, self.data.dataset(done.run.spec)
        record = FinalRecord(
            dataset.class_names,
            final.confusion.numpy(),
            partition_table(done.run, dataset),
            {"": final.interpolation, **final.lines} if final.interpolation else final.lines,
            final.correlations,
        )
        if self.store_models:
            model = spec.build_model()
            model.load_state_dict(model_with(final.server.model, like=model).state_dict())
            example = dataset.normalise(dataset.test_images[:EXAMPLES_WITH_MODEL]).numpy()
            record = replace(record, model=model, model_name=_model_key(spec), example=example)
        tracked.log_final(record)


def _model_key(spec: CellSpec) -> str:
    """What models have in common that differ in their parameters alone: the part, and an example of its input."""
    part = spec.component("model")
    example = (spec.dataset, *spec.options_of("dataset").items(), spec.split, spec.pixels)
    return str((part.name, *spec.options_of("model").items(), part.digest or "built in", *example))


def _lock_path(job: Job) -> Path:
    assert job.checkpoint is not None  # noqa: S101 - without checkpoints there are no locks
    return job.checkpoint.with_suffix(".lock")


def _clean_up(job: Job) -> None:
    """Remove what a process left that was killed after its run was recorded."""
    if job.checkpoint is None or not (job.checkpoint.exists() or _lock_path(job).exists()):
        return
    if held := try_lock(_lock_path(job)):
        remove(job.checkpoint)
        held.remove()
