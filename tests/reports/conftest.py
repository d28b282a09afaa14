"""A store with made numbers, written once."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_store import address, made_suite, record


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store in which the suite `made` ran."""
    folder: Path = tmp_path_factory.mktemp("made")
    record(made_suite(folder), address(folder))
    return address(folder)
