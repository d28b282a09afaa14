"""One thread a process, as the executors do; no store from the environment; mnist-5k's file is read once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch; the processes that tests start inherit it


@pytest.fixture(autouse=True)
def _no_store_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session", autouse=True)
def read_mnist_5k() -> Iterator[Callable[[], Any]]:
    """Read mnist-5k's file once a process: it takes 0.1 s, hundreds of times. Gives the function that reads it."""
    from fedbench.datasets import mnist_5k

    read = mnist_5k._read_table

    @cache
    def table(digest: str) -> Any:
        del digest  # with another one it is read, and refused
        found = read()
        found.flags.writeable = False
        return found

    with pytest.MonkeyPatch.context() as changes:
        changes.setattr(mnist_5k, "_read_table", lambda: table(mnist_5k.CONTENT_SHA256))
        yield read
