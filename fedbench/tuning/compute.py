"""Trials computed in this process, or in several, each of which takes them from Optuna's storage by itself."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import optuna
import torch

from fedbench.datasets import Dataset
from fedbench.datasets.validation import load_held_out
from fedbench.executors import THREADS
from fedbench.executors.allocator import keep_freed_memory
from fedbench.executors.processes import cause_of_death, end_with_parent, without_ctrl_c
from fedbench.tuning.plan import Plan
from fedbench.tuning.search import POLL_SECONDS, compute_trials, retry_dead
from fedbench.tuning.slots import MAX_RETRIES
from fedbench.tuning.storage import open_storage, open_study, storage_errors
from fedbench.tuning.trial import Validation
from fedbench.util.errors import FedbenchError, StoreError, one_line


@dataclass(frozen=True)
class Work:
    """What a process needs to take part in a study.

    Attributes
    ----------
    identity
        The study's (see `fedbench.tuning.plan.identity`).
    storage
        The address of Optuna's storage.
    data_dir, device
        See `fedbench.runs.data.DataSource`.
    num_threads
        Threads that train the clients of a trial.
    deadline
        See `fedbench.tuning.search.compute_trials`.
    """

    plan: Plan
    identity: str
    storage: str
    data_dir: Path | None
    device: str
    num_threads: int = 1
    deadline: float | None = None


def compute(work: Work, study: optuna.Study, held_out: Dataset, num_workers: int) -> Iterator[None]:
    """Compute trials on `held_out` until the study is done, and yield now and then.

    In one process the trials are the same each time, also if the study was interrupted in between. In several, which
    parameters a trial has depends on which trials ended before it.
    """
    with storage_errors(work.storage):
        yield from (
            _compute_here(work, study, held_out)
            if num_workers == 1
            else _compute_in_processes(work, study, num_workers)
        )


def _compute_here(work: Work, study: optuna.Study, held_out: Dataset) -> Iterator[None]:
    torch.set_num_threads(THREADS)  # for each of the threads; see `fedbench.executors`
    keep_freed_memory()
    validation = Validation(held_out, torch.device(work.device), work.num_threads)
    yield from compute_trials(study, work.plan, validation, work.deadline)


def _compute_in_processes(work: Work, study: optuna.Study, num_workers: int) -> Iterator[None]:
    """In `num_workers` processes. One that dies is replaced, and its trial is tried again."""
    deaths = 0
    with ExitStack() as stack:
        workers: list[_Worker] = []

        def start() -> None:
            with without_ctrl_c():
                workers.append(worker := _Worker(work))
                stack.callback(worker.stop)

        for _ in range(num_workers):
            start()
        while workers:
            ended = wait([worker.connection for worker in workers], POLL_SECONDS)
            for worker in [each for each in workers if each.connection in ended]:
                workers.remove(worker)
                if (death := worker.how_it_ended()) is None:
                    continue
                deaths += 1
                retry_dead(study)
                if deaths > num_workers * MAX_RETRIES:
                    raise StoreError(f"processes that compute trials died {deaths} times ({death}): try --workers 1")
                start()
            yield


class _Worker:
    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_take_part, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def how_it_ended(self) -> str | None:
        """None if it has done all there was to do; raises what it could not go on for."""
        try:
            message: str | None = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return cause_of_death(self.process.exitcode or 0)
        if message is not None:
            raise StoreError(message)
        return None

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _take_part(connection: Connection, work: Work) -> None:
    """Compute trials until the study is done, and say so; or what is wrong."""
    end_with_parent()
    try:
        spec = work.plan.spec
        held_out = load_held_out(spec.dataset, spec.split, work.plan.validation, work.data_dir)
        study = open_study(open_storage(work.storage), work.plan, work.identity)
        for _ in compute(work, study, held_out, num_workers=1):
            pass
    except FedbenchError as error:
        connection.send(str(error))
    except Exception as error:
        connection.send(f"a process that computes trials cannot go on: {one_line(error)}")
    else:
        connection.send(None)
