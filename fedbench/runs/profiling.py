"""Profiles a run with PyTorch's profiler: how long each part takes, and which operators take the time."""

from __future__ import annotations

import gzip
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedbench.runs.computing import bits_depend_on
from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.traces import WHOLE, Operator, read_trace
from fedbench.util.errors import DataError, SuiteError
from fedbench.util.files import plain_errors, replacing

if TYPE_CHECKING:
    from fedbench.runs.work import Executor, RunWork
    from fedbench.suites.schema import CellSpec, RunSpec

# The profiler reads it when PyTorch is imported, and writes to standard error without it.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

MAX_ROUNDS = 5
MAX_STEPS = 3_000  # of SGD in one recording: 1,000 take about 0.4 GB of memory, and 5 MB of disk
COMPRESSION = 6


def require_one_worker(num_workers: int | None, executor: str = "local") -> int:
    """One worker, whose runs are computed in this process.

    Raises `SuiteError` if another number or another machine is asked for.
    """
    if executor != "local":
        raise SuiteError(f"--profile records this process: leave out --executor {executor}")
    if num_workers not in (None, 1):
        raise SuiteError(f"--profile records one process, not {num_workers}: leave --workers out, or set it to 1")
    return 1


def recordable_rounds(spec: CellSpec) -> int:
    """How many rounds of a run are recorded; 0 if a single round is too large."""
    return min(MAX_ROUNDS, MAX_STEPS // spec.local_steps(rounds=1))


@dataclass(frozen=True)
class Profile:
    """A profile of so many rounds of a run, with their wall time; `path` is the trace.

    `parts` are the seconds of each part (see `fedbench.runs.traces.read_trace`), which add up to `seconds`.
    """

    run: RunSpec
    rounds: int
    seconds: float
    parts: Mapping[str, float]
    operators: tuple[Operator, ...]
    path: Path


class Recorder:
    """Profiles the first run that an executor computes, up to the fifth round computed; the trace goes to `folder`.

    As long as there is no `profile`, `reason` says why, and `error` why it could not be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profile: Profile | None = None
        self.reason = "Nothing to profile: no run was computed. With --fresh the finished runs are computed again."
        self.error: DataError | None = None
        self._recording: _Recording | None = None

    def recorded(self, execute: Executor) -> Executor:
        """`execute`, which has to compute in the thread that calls it, with one of its runs recorded."""

        def execute_recorded(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
            try:
                for event in execute(self._watched(jobs, work.data.device), work):
                    yield event  # what its consumer does with it belongs to the run
                    if self._recording and self._recording.ends_with(event):
                        recording, self._recording = self._recording, None
                        try:
                            self.profile = recording.write(self.folder)
                        except DataError as error:  # it costs no run
                            self.error = error
            finally:  # an error, or the consumer went away
                if self._recording:
                    self._recording.stop()

        return execute_recorded

    def _watched(self, jobs: Iterable[Job], device: str) -> Iterator[Job]:
        for job in jobs:
            if self.profile is None and self.error is None:
                if recordable_rounds(job.run.spec):
                    self._recording = _Recording(job, device)
                else:
                    self.reason = (
                        f"Nothing was profiled: a round of {job.run.cell} has {job.run.spec.local_steps(rounds=1)} "
                        f"local steps, and {MAX_STEPS} can be recorded; make it smaller, as with --set local_epochs=1"
                    )
            yield job


class _Recording:
    """The profiler while it records a run, from its creation."""

    def __init__(self, job: Job, device: str) -> None:
        # The first run imports these, which takes seconds that belong to no run.
        import scipy.special  # noqa: F401
        import torch._dynamo
        import torch.export._trace  # noqa: F401
        from torch.profiler import ProfilerActivity, profile, record_function

        from fedbench.runs.checkpoints import load_checkpoint

        kept = (
            load_checkpoint(job.checkpoint, job.fingerprint, bits_depend_on(job.computed_with))
            if job.checkpoint
            else None
        )
        self.run = job.run
        self.first = kept.round + 1 if kept else 1
        self.rounds = 0
        gpu = [ProfilerActivity.CUDA] if device == "cuda" else []
        self._profiler = profile(activities=[ProfilerActivity.CPU, *gpu])
        self._open = ExitStack()
        self._profiler.start()
        self._open.callback(self._profiler.stop)
        self._open.enter_context(record_function(WHOLE))

    def ends_with(self, event: Event) -> bool:
        """Whether the recording ends after `event`; a round re-emitted from a checkpoint does not count."""
        self.rounds += isinstance(event, RoundDone) and event.round >= self.first
        return isinstance(event, RunDone) or self.rounds == recordable_rounds(self.run.spec)

    def stop(self) -> None:
        """Stop the profiler."""
        self._open.close()

    def write(self, folder: Path) -> Profile:
        """Stop, write the trace into `folder`, and read it; raises `DataError` if it cannot be written."""
        self.stop()
        name = re.sub(r"[^\w.=-]+", "-", f"{self.run.cell} seed={self.run.seed}")[:100]
        path = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}.json.gz"
        with plain_errors("the profile cannot be written"):
            trace = self._exported(folder)
            try:
                parts, operators = read_trace(trace)
            except ValueError as error:
                raise DataError(f"the profile is not whole: make room on the disk of {folder}") from error
            with replacing(path) as file:
                file.write(gzip.compress(trace, COMPRESSION))
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return Profile(self.run, self.rounds, math.fsum(parts.values()), parts, operators, path)

    def _exported(self, folder: Path) -> bytes:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".recording-", dir=folder) as scratch:
            path = Path(scratch) / "trace.json"
            self._profiler.export_chrome_trace(str(path))
            del self._profiler  # it holds much memory
            return path.read_bytes()
