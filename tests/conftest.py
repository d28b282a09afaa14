"""One thread per process, as in the executors; no store from the environment; what takes long is made once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tiny_store import Store

    from fedbench.suites.schema import Suite

# Before anything imports torch; the processes that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("short", max_examples=50, deadline=None)
settings.register_profile("long", max_examples=20_000, deadline=None)  # `make prove`
settings.load_profile("short")


@pytest.fixture(autouse=True)
def _no_store_and_no_data_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "FEDBENCH_DATA_DIR"):
        monkeypatch.setenv(name, "")  # so that what a command sets is put back, too
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_debugging_by_libraries() -> None:
    """One of them lowers the root logger's level for good, and `caplog` would have the messages of all."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(scope="session", autouse=True)
def read_mnist_5k() -> Iterator[Callable[[], Any]]:
    """Read mnist-5k's file once per process: it takes 0.1 s, hundreds of times. Gives the function that reads it."""
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


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A tiny suite, run once into a real SQLite store."""
    from tiny_store import Store, track, write_suite

    folder = tmp_path_factory.mktemp("store")
    suite = write_suite(folder)
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    return Store(uri, folder / "mlruns", suite, track(suite, uri))


@pytest.fixture(scope="session")
def empty_store() -> bytes:
    """The bytes of a new SQLite store: copying them is quicker than making one."""
    from empty_store import empty_store as new_store

    return new_store()


@pytest.fixture
def tiny_suite(tmp_path: Path) -> Suite:
    """One run of one round."""
    from tiny_store import write_suite

    text = "name: tiny\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, examples_per_client: 10, rounds: 1}]\n"
    return write_suite(tmp_path, text)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store in which the suite `made` ran, with made numbers."""
    from made_store import address, record
    from made_suite import made_suite

    folder: Path = tmp_path_factory.mktemp("made")
    record(made_suite(folder), address(folder))
    return address(folder)
