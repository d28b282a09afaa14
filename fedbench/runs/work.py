"""How runs are computed, for any executor: each dataset is loaded once per process, or sent to another machine."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.executors import Compute, PortableWork
from fedbench.measures import RunResult, Verdict
from fedbench.runs.data import CHANGED, DataSource, digest_of
from fedbench.runs.events import Event, Job, RunDone
from fedbench.util.environment import KERNELS

if TYPE_CHECKING:
    from fedbench.datasets import Dataset

Executor = Callable[[Iterable[Job], "RunWork"], Iterator[Event]]


@dataclass(frozen=True)
class RunWork(PortableWork[Job, Event]):
    """Computes runs on the datasets and the device of `data`."""

    data: DataSource

    def compute(self, job: Job, num_threads: Callable[[], int]) -> Iterator[Event]:
        """Yield the run's rounds and its end."""
        dataset = self.data.dataset(job.run.spec)
        if job.data and digest_of(dataset, job.run.spec) != job.data:
            name = job.run.spec.dataset
            return iter([self.failed(job, f"dataset {name} is not what the command loaded; {CHANGED}")])
        return _simulate(job, dataset, self.data.device, num_threads)

    def is_last(self, event: Event) -> bool:
        """Whether the run has ended."""
        return isinstance(event, RunDone)

    def failed(self, job: Job, reason: str) -> RunDone:
        """The end of a run that nobody could compute."""
        return RunDone(job.run, RunResult(Verdict.FAILED, reason))

    def warm_up(self) -> None:
        """Import what storing a model takes: seconds when the first run ends.

        A command that ends first breaks the import off. What else is wrong is raised where a model is stored.
        """
        with suppress(Exception):
            import torch._dynamo
            import torch.export._trace  # noqa: F401

    @contextmanager
    def portable(self) -> Iterator[Callable[[Job], tuple[str, Compute[Job, Event]]]]:
        """Send datasets along with the runs; see `PortableWork`."""
        with ExitStack() as stack:
            probe: Path | None = None

            def of(job: Job) -> tuple[str, Compute[Job, Event]]:
                nonlocal probe
                if probe is None and job.checkpoint:
                    probe = stack.enter_context(_probe(job.checkpoint.parent))
                dataset = self.data.dataset(job.run.spec)
                return f"{dataset.digest} {job.run.spec.pixels}", _ElsewhereOn(dataset, self.data.device, probe)

            yield of

    def depends_on_processor(self, job: Job) -> bool:
        """Whether PyTorch takes part in a run."""
        return job.computed_with != KERNELS

    def __reduce__(self) -> tuple[Any, ...]:
        return RunWork, (DataSource(self.data.folder, self.data.device),)  # each process loads for itself


@dataclass(frozen=True)
class _ElsewhereOn:
    """Computes runs on a dataset that it carries.

    `probe` is a file next to the checkpoints: a machine that does not see it does not share their folder, and keeps
    none.
    """

    dataset: Dataset
    device: str
    probe: Path | None

    def __call__(self, job: Job, num_threads: Callable[[], int]) -> Iterator[Event]:
        if self.probe is None or not self.probe.exists():
            job = replace(job, checkpoint=None)
        return _simulate(job, self.dataset, self.device, num_threads)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (pack(self.dataset), self.device, self.probe)


def _simulate(job: Job, dataset: Dataset, device: str, num_threads: Callable[[], int]) -> Iterator[Event]:
    from fedbench.runs.simulation import simulate

    return simulate(job, dataset, device, num_threads)


def _unpacked(content: Mapping[str, Any], device: str, probe: Path | None) -> _ElsewhereOn:
    return _ElsewhereOn(unpack(content), device, probe)


def pack(dataset: Dataset) -> dict[str, Any]:
    """A dataset with NumPy arrays for tensors: pickled, these can be shared by all processes of a machine."""
    import torch

    content = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in content.items()}


def unpack(content: Mapping[str, Any]) -> Dataset:
    """The dataset again; its tensors are views of memory that nobody may write to."""
    import numpy as np
    import torch

    from fedbench.datasets import Dataset

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        arrays = {name: torch.from_numpy(value) for name, value in content.items() if isinstance(value, np.ndarray)}
    return Dataset(**{**content, **arrays})


@contextmanager
def _probe(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".shared-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
