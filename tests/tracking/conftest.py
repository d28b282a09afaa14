"""A tiny suite, run once into a real SQLite store."""

from __future__ import annotations

from pathlib import Path

import pytest
from empty_store import empty_store as new_store
from tiny_store import Store, track, write_suite

from fedbench.specs import Suite


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    suite = write_suite(folder)
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    return Store(uri, folder / "mlruns", suite, track(suite, uri))


@pytest.fixture(scope="session")
def empty_store() -> bytes:
    """The bytes of a new SQLite store: copying them is quicker than making one."""
    return new_store()


@pytest.fixture
def tiny_suite(tmp_path: Path) -> Suite:
    """One run of one round."""
    text = "name: tiny\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, examples_per_client: 10, rounds: 1}]\n"
    return write_suite(tmp_path, text)
