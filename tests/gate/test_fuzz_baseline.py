"""Whatever the file of a baseline holds, it is refused in one line, or can be compared with."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import ANYTHING, any_bytes, fuzz, near, result_of
from hypothesis import strategies as st
from made_records import TEXT, made_baseline
from rich.console import Console

from fedbench.gate.accuracy import check_against_baseline
from fedbench.gate.baseline import Baseline, comparable_baseline, read_baseline, require_data, reserve_seeds
from fedbench.gate.checks import Gate
from fedbench.gate.document import gate_json, write_pages
from fedbench.gate.terminal import gate_table
from fedbench.suites.loading import load_suite

SUITE = load_suite(yaml.safe_load(TEXT))
NOW = made_baseline(SUITE).cells
VALID = made_baseline(SUITE).model_dump(mode="json")


def signed(content: Any) -> bytes:
    """A file with the right checksum, if it can have one."""
    if isinstance(content, dict):
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        content = content | {"checksum": digest}
    return json.dumps(content).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made.json"


def test_the_document_is_valid(path: Path) -> None:
    path.write_bytes(signed(VALID))
    assert comparable_baseline(path, SUITE, seeds_are_given=False)


@fuzz(any_bytes(signed(VALID)))
def test_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    result_of(lambda: read_baseline(path, "made"), path)


@fuzz(near(VALID) | ANYTHING, st.booleans(), examples=200)
def test_a_document_near_a_valid_one(path: Path, content: Any, seeds_are_given: bool) -> None:
    path.write_bytes(signed(content))
    if before := result_of(lambda: read_baseline(path, "made"), path):
        result_of(lambda: reserve_seeds(SUITE, before, None))
    if baseline := result_of(lambda: comparable_baseline(path, SUITE, seeds_are_given), path):
        result_of(lambda: require_data(baseline, NOW, path), path)
        require_usable(baseline, path.parent)
        assert signed(baseline.model_dump(mode="json"))


def require_usable(baseline: Baseline, folder: Path) -> None:
    """A check against it can be shown and written."""
    gate = Gate(check_against_baseline(SUITE, baseline, NOW, "cpu", 1.0, uses_reserve=True), None)
    json.dumps(gate_json(gate), allow_nan=False)
    Console(file=io.StringIO()).print(gate_table(gate, power=True))
    write_pages(gate, folder / "junit.xml", folder / "page.md")
