"""Processes that compute: Ctrl-C is left to their parent, and they end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from threading import Thread
from types import ModuleType

from fedbench.executors import THREADS
from fedbench.executors.allocator import keep_freed_memory

SAFE_PATH = "PYTHONSAFEPATH"
SPAWN = get_context("spawn")


def import_ahead() -> ForkServerContext | SpawnContext:
    """Start the process that workers are forked from, which imports while this one does other things.

    So each worker has at once what it needs, and they share its memory. Elsewhere than on Linux, where system libraries
    do not survive a fork, and where its socket cannot be made in the folder of temporary files, such as one with a long
    path, workers are spawned. Returns what starts them.
    """
    if sys.platform == "linux":
        forked = get_context("forkserver")
        forked.set_forkserver_preload(["fedbench.core"])
        with without_ctrl_c(), without_the_working_directory(), suppress(OSError):
            forkserver.ensure_running()
            return forked
    return SPAWN


def prepare_to_compute() -> None:
    """Limit PyTorch to one thread, and let the C library keep freed memory."""
    import torch

    torch.set_num_threads(THREADS)
    keep_freed_memory()


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Start processes that never receive SIGINT: they inherit this thread's blocked signals.

    Here a Ctrl-C in between takes effect at the end.
    """
    resource_tracker.ensure_running()  # else it starts with the first process, and unblocks the signal again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def without_the_working_directory() -> Iterator[None]:
    """Start processes of Python that import nothing from the working directory, such as somebody's random.py."""
    kept = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]
        if kept is not None:
            os.environ[SAFE_PATH] = kept


@contextmanager
def without_the_script() -> Iterator[None]:
    """Start processes that do not execute the script of this one again, which might begin all over.

    They need nothing of it: what a job names is found by its file or module.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def end_with_parent() -> None:
    """End this process when its parent does, even if the parent is killed in the middle of a long round."""
    Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def cause_of_death(code: int) -> str:
    """What a process's exit code says."""
    return f"signal {signal.Signals(-code).name}, perhaps out of memory" if code < 0 else f"exit code {code}"
