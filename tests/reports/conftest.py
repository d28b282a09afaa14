"""A suite with made numbers, as records without a store."""

from __future__ import annotations

import pytest
from made_suite import made_suite, stored_suite

from fedbench.suites.schema import Suite
from fedbench.tracking.records import StoredSuite


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return made_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="session")
def stored(suite: Suite) -> StoredSuite:
    return stored_suite(suite)
