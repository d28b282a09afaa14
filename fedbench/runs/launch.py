"""Runs a suite as the command and the Python API ask for it: where, on which data, and recorded in which store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fedbench.executors.needs import MOST_CPUS, MOST_GIB, MOST_WORKERS
from fedbench.util.errors import ClusterError, InterruptedSuiteError
from fedbench.util.frozen import Fraction, Frozen
from fedbench.util.garbage import without_garbage_collection
from fedbench.util.progress import phase, progress

if TYPE_CHECKING:
    from fedbench.runs.profiling import Recorder
    from fedbench.runs.suite_run import Executor, Outcome
    from fedbench.suites.schema import Suite


class Where(Frozen):
    """Where runs are computed; the fields are the options of ``fedbench run``, None where one was not given."""

    device: str = "cpu"
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus_per_run: Annotated[int, Field(ge=1, le=MOST_CPUS)] | None = None
    gpus_per_run: Fraction | None = None
    memory_per_run: Annotated[float, Field(ge=0.1, le=MOST_GIB)] | None = None

    def choose(self, imports_ahead: bool) -> tuple[Executor, str]:
        """The executor (see `choose_executor`), and the device that runs are computed on.

        Raises `FedbenchError` if the machine or the cluster has no such thing, or options do not fit together.
        """
        from fedbench.executors import choose_executor, cluster_executor
        from fedbench.executors.needs import Needs
        from fedbench.runs.data import choose_device

        per_run = (self.cpus_per_run, self.gpus_per_run, self.memory_per_run)
        if self.executor == "ray":
            needs = Needs.of(self.device, *per_run)
            return cluster_executor(self.address, needs, self.workers), needs.device
        if self.address is not None or any(each is not None for each in per_run):
            raise ClusterError("--address and the --...-per-run options need --executor ray")
        return choose_executor(self.workers, imports_ahead=imports_ahead), choose_device(self.device)


def track_suite(
    suite: Suite,
    where: Where,
    *,
    data_dir: Path | None = None,
    tracking_uri: str | None = None,
    fresh: bool = False,
    store_models: bool = True,
    profile: bool = False,
) -> tuple[list[Outcome], Recorder | None]:
    """Run what is not finished of a suite, record it in an MLflow store, and show the progress.

    For `fresh` and `store_models` see `fedbench.runs.suite_run.run_suite`. With `profile` the first run is profiled, by
    one worker. Returns the outcomes of all runs, and what profiled the first one. Raises `FedbenchError` if nothing can
    be run; after Ctrl-C the `InterruptedSuiteError` says how much is finished.
    """
    if profile:
        from fedbench.runs.profiling import Recorder  # before PyTorch
    with progress(suite.name, len(suite.runs), "runs") as advance:
        phase("loading PyTorch and MLflow")
        with without_garbage_collection():
            is_finished = not fresh and _looks_finished(suite, tracking_uri)
            execute, device = where.choose(imports_ahead=len(suite.runs) > 1 and not (profile or is_finished))
            from fedbench.runs.data import DataSource
            from fedbench.runs.suite_run import run_suite
            from fedbench.tracking.mlflow.tracker import MlflowTracker

        data = DataSource(data_dir, device)
        data.require(cell.spec for cell in suite.cells)
        phase("setting up the store")
        tracker = MlflowTracker(suite, tracking_uri)
        recorder = None
        if profile:
            from fedbench.executors import in_process

            recorder = Recorder(tracker.checkpoints.parent / "profiles" / suite.name)
            execute = recorder.recorded(in_process.execute)
        runs = suite.runs
        outcomes: list[Outcome] = []
        try:
            with closing(run_suite(runs, data, tracker, execute, fresh, store_models)) as running:
                for outcome in running:
                    outcomes.append(outcome)
                    advance(1, outcome.run.cell)
        except KeyboardInterrupt:
            raise InterruptedSuiteError(_interrupted(len(outcomes), len(runs), fresh)) from None
    return outcomes, recorder


def _looks_finished(suite: Suite, tracking_uri: str | None) -> bool:
    """Whether the store may have all runs, by its folders: nothing need be started until it was asked."""
    from fedbench.tracking.mlflow.database import artifact_folder, default_tracking_uri

    folder = artifact_folder(tracking_uri or default_tracking_uri(), suite.name)
    return folder is None or len(list(folder.glob("*"))) >= len(suite.runs)


def _interrupted(done: int, total: int, fresh: bool) -> str:
    """What the same command does after an interruption."""
    again = "starts over; without --fresh it resumes what had not finished before" if fresh else "resumes"
    return f"{done} of {total} runs are finished; the same command {again}"
