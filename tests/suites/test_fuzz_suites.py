"""Whatever a suite file holds, it is a suite or one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import ANYTHING, TEXT, any_bytes, fuzz, near, result_of
from hypothesis import strategies as st

from fedbench.suites.files import shipped_suites
from fedbench.suites.loading import load_suite, parse_overrides, parse_seeds
from fedbench.suites.schema import Suite

VALID: dict[str, Any] = {
    "name": "s",
    "question": "Why?",
    "seeds": [0, 1],
    "defaults": {"rounds": 2, "examples_per_client": 20, "batch_size": None, "dataset": "mnist-5k"},
    "scenarios": [
        {"name": "a", "init": ["shared", "independent"], "learning_rate": [0.1, 0.01], "interpolation": False},
        {
            "name": "b",
            "algorithm": {"use": "fedprox", "proximal_weight": 0.1},
            "target_accuracy": 0.5,
            "num_clients": 3,
        },
        {
            "name": "c",
            "optimiser": "sgd",
            "momentum": 0.9,
            "partition": "dirichlet",
            "partition_alpha": 0.5,
            "weights": "uniform",
        },
    ],
    "tune": {
        "scenario": "b",
        "set": {"num_clients": 2},
        "space": {"learning_rate": {"low": 0.01, "high": 0.1, "log": True}, "local_epochs": [1, 2]},
        "objective": "rounds_to_target",
        "target": 0.5,
        "trials": 3,
        "seeds": [0],
        "fresh_seeds": [5],
        "validation": 0.2,
        "pruning": False,
    },
    "conformance": {"b": {"paper": 10, "band": [1, 20], "measure": "rounds_to_target", "speedup_over": "b"}},
}
FILES = [path.read_bytes() for path in sorted(shipped_suites().glob("*.yaml"))[:3]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "suite.yaml"


def test_the_document_is_valid() -> None:
    assert load_suite(VALID).conformance


@fuzz(any_bytes(yaml.safe_dump(VALID).encode(), *FILES))
def test_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    result_of(lambda: load_suite(path), path)


@fuzz(near(VALID), examples=200)
def test_a_document_near_a_valid_one(content: Any) -> None:
    if isinstance(content, dict) and (suite := result_of(lambda: load_suite(content), "the suite: ")):
        require_usable(suite)


@fuzz(near(VALID), examples=50)
def test_a_file_near_a_valid_one(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))  # which YAML includes
    result_of(lambda: load_suite(path), path)


@fuzz(st.text(max_size=40) | TEXT)
def test_options(text: str) -> None:
    result_of(lambda: parse_seeds(text), "--seeds: ")
    for setting in (text, f"rounds={text}", f"learning_rate: {text}"):
        if given := result_of(lambda: parse_overrides([setting]), "--set: "):  # noqa: B023
            result_of(lambda: load_suite(VALID, overrides=given), "the suite: ")


@fuzz(st.dictionaries(st.sampled_from(["rounds", "model", "momentum", "seeds"]) | TEXT, ANYTHING, max_size=3))
def test_settings(overrides: Any) -> None:
    result_of(lambda: load_suite(VALID, overrides=overrides), "the suite: ")


def require_usable(suite: Suite) -> None:
    for cell in suite.cells:
        assert cell.label.isprintable()
        hash(cell.spec)
        json.dumps(cell.spec.identity)
        result_of(cell.spec.shortfall)
