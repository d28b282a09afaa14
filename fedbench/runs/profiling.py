"""One run recorded by PyTorch's profiler: how long each part of it takes, and which operators take the time.

The parts are marked where they are computed, by ``torch.profiler.record_function("fedbench/<part>")``. A block costs
microseconds also while nothing is recorded, so there is none for a single batch.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.traces import LABEL, WHOLE, Operator, read_trace
from fedbench.util.errors import DataError, SuiteError
from fedbench.util.files import plain_errors, replacing

if TYPE_CHECKING:
    from fedbench.runs.work import Executor, RunWork
    from fedbench.suites.schema import RunSpec

# Before anything imports PyTorch: its profiler reads it when it is loaded, and talks on standard error without it.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

MAX_ROUNDS = 5
MAX_STEPS = 3_000  # of SGD in one recording: 1,000 take about 0.4 GB of memory, and 5 MB of disk
COMPRESSION = 6


def part(name: str) -> AbstractContextManager[object]:
    """Mark a part of a run, for code that may run before PyTorch is imported."""
    if "torch" not in sys.modules:  # then nothing is recorded
        return nullcontext()
    from torch.profiler import record_function

    return record_function(LABEL + name)


def require_one_worker(num_workers: int | None, executor: str = "local") -> int:
    """One worker, whose runs are computed in this process.

    Raises
    ------
    SuiteError
        If another number is asked for, or another machine.
    """
    if executor != "local":
        raise SuiteError(f"--profile records this process: leave out --executor {executor}")
    if num_workers not in (None, 1):
        raise SuiteError(f"--profile records one process, not {num_workers}: leave --workers out, or set it to 1")
    return 1


@dataclass(frozen=True)
class Profile:
    """What a recording shows.

    Attributes
    ----------
    rounds
        How many were recorded.
    seconds
        Wall time of all that was recorded.
    parts
        See `fedbench.runs.traces.read_trace`; their sum is `seconds`.
    path
        The trace.
    """

    run: RunSpec
    rounds: int
    seconds: float
    parts: Mapping[str, float]
    operators: tuple[Operator, ...]
    path: Path


class Recorder:
    """Records the first run that passes through an executor, up to the fifth round that is computed of it.

    Attributes
    ----------
    folder
        Where the trace goes.
    profile
        What was recorded; None until it is written.
    error
        Why it could not be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profile: Profile | None = None
        self.error: DataError | None = None
        self._recording: _Recording | None = None
        self._too_large: RunSpec | None = None

    def recorded(self, execute: Executor) -> Executor:
        """`execute`, which has to compute in the thread that calls it, with one of its runs recorded."""

        def execute_recorded(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
            try:
                for event in execute(self._watched(jobs, work.data.device), work):
                    yield event  # what its consumer does with it belongs to the run
                    if self._recording and self._recording.ends_with(event):
                        recording, self._recording = self._recording, None
                        self._write(recording)
            finally:  # it failed, or the consumer went away
                if self._recording:
                    self._recording.stop()

        return execute_recorded

    def _watched(self, jobs: Iterable[Job], device: str) -> Iterator[Job]:
        for job in jobs:
            if self.profile is None and self.error is None:
                if job.run.spec.local_steps(rounds=1) <= MAX_STEPS:
                    self._recording = _Recording(job, device)
                else:
                    self._too_large = job.run
            yield job

    def _write(self, recording: _Recording) -> None:
        try:
            self.profile = recording.write(self.folder)
        except DataError as error:  # the runs go on, and it is said at the end
            self.error = error

    def why_nothing(self) -> str:
        """Why there is no profile.

        Raises
        ------
        DataError
            If it could not be written.
        """
        if self.error:
            raise self.error
        if run := self._too_large:
            return (
                f"Nothing was profiled: a round of {run.cell} has {run.spec.local_steps(rounds=1)} local steps, and "
                f"{MAX_STEPS} can be recorded; make it smaller, as with --set local_epochs=1"
            )
        return "Nothing to profile: no run was computed. With --fresh the finished runs are computed again."


class _Recording:
    """The profiler while it records a run; making one starts it."""

    def __init__(self, job: Job, device: str) -> None:
        # The first run imports these: seconds that are no run's own.
        import scipy.special  # noqa: F401
        import torch._dynamo
        import torch.export._trace  # noqa: F401
        from torch.profiler import ProfilerActivity, profile, record_function

        from fedbench.runs.checkpoints import load_checkpoint

        kept = load_checkpoint(job.checkpoint, job.fingerprint) if job.checkpoint else None
        self.run = job.run
        self.first = kept.round + 1 if kept else 1
        self.rounds = 0
        self.max_rounds = min(MAX_ROUNDS, MAX_STEPS // job.run.spec.local_steps(rounds=1))
        gpu = [ProfilerActivity.CUDA] if device == "cuda" else []
        self._profiler = profile(activities=[ProfilerActivity.CPU, *gpu])
        self._open = ExitStack()
        self._profiler.start()
        self._open.callback(self._profiler.stop)
        self._open.enter_context(record_function(WHOLE))

    def ends_with(self, event: Event) -> bool:
        """Whether the recording ends after `event`; a round that a checkpoint tells again does not count."""
        self.rounds += isinstance(event, RoundDone) and event.round >= self.first
        return isinstance(event, RunDone) or self.rounds == self.max_rounds

    def stop(self) -> None:
        """Stop the profiler."""
        self._open.close()

    def write(self, folder: Path) -> Profile:
        """Stop, write the trace into `folder`, and read it.

        Raises
        ------
        DataError
            If it cannot be written.
        """
        self.stop()
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = re.sub(r"[^\w.=-]+", "-", f"{self.run.cell} seed={self.run.seed}")[:100]
        path = folder / f"{now}-{name}.json.gz"
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
