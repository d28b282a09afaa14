"""The JSON schema of suite files takes what fedbench takes, and finds the usual mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from command import fedbench_here
from entry_points import offer

from fedbench.new import TEMPLATES
from fedbench.suites.files import shipped_suites
from fedbench.suites.json_schema import suite_schema
from fedbench.suites.yaml_loader import parse_yaml, read_yaml

FOLDER = Path(__file__).parents[2] / "suites"
OWN_PACKAGE = Path(__file__).parents[1] / "own_package/suite.yaml"
SUITE = "name: a\nquestion: Why?\nseeds: [0]\nscenarios: [{name: b}]\n"
SCHEMA = suite_schema(with_installed=False)
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def is_valid(content: object) -> bool:
    return bool(VALIDATOR.is_valid(content))


def with_fields(fields: str, **more: Any) -> dict[str, Any]:
    return yaml.safe_load(SUITE) | {"scenarios": [{"name": "b", **yaml.safe_load(f"{{{fields}}}")}]} | more


def test_the_file_next_to_the_shipped_suites_is_the_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    found = json.loads((FOLDER / "schema.json").read_text())
    assert found == SCHEMA, "write it again: fedbench suites --schema > suites/schema.json"


@pytest.mark.parametrize("path", [*sorted(shipped_suites().glob("*.yaml"))], ids=lambda path: path.name)
def test_a_shipped_suite_names_it_and_is_valid(path: Path) -> None:
    first, _ = path.read_text().split("\n", 1)
    assert "# yaml-language-server: $schema=schema.json" == first
    assert [] == [error.message for error in VALIDATOR.iter_errors(read_yaml(path))]


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.yaml")), ids=lambda path: path.name)
def test_what_fedbench_new_writes_is_valid(path: Path) -> None:
    assert [] == [error.message for error in VALIDATOR.iter_errors(read_yaml(path))]


@pytest.mark.parametrize(
    "fields",
    [
        "num_clients: [2, 3], batch_size: null, learning_rate: 1",
        "batch_size: [null, 10], target_accuracy: 0.9, partition_alpha: [0.1, null]",
        "model: [2nn, {use: simple-cnn}], algorithm: {use: fedprox, proximal_weight: [0.1, 1]}",
        "model: ./net.py:Net, width: [16, 64], activation: relu",
        "model: {use: package.nets:Net, width: 64}",
        "model: [simple-cnn, {use: package.nets:Net, width: [64, null]}], width: 3",
        "dataset: ./scans.npz",
        "dataset: photos/here",
        "dataset: torchvision:CIFAR100",
        "dataset: [./data.py, mnist-5k], noise: 1",
        "optimiser: {use: sgd, momentum: 0.9}, augmentation: horizontal-flip, aggregation: {use: trimmed-mean}",
    ],
)
def test_what_a_scenario_may_say(fields: str) -> None:
    assert [] == [error.message for error in VALIDATOR.iter_errors(with_fields(fields))]


@pytest.mark.parametrize(
    "fields",
    [
        "round: 3",
        "rounds: 0",
        "rounds: '3'",
        "rounds: [3, 3]",
        "rounds: []",
        "rounds: [[3]]",
        "learning_rate: 0",
        "client_fraction: 1.5",
        "init: shred",
        "stop_at_target: 1",
        "model: simple-cn",
        "model: ./net.py",
        "model: {use: simple-cnn, width: 3}",
        "model: {name: simple-cnn}",
        "algorithm: {use: fedprox, proximal_weight: -1}",
        "algorithm: {use: fedprox, server_momentum: 0.5}",
        "proximal_weight: high",
        "width: 3",
        "dataset: scans",
    ],
)
def test_usual_mistakes_in_a_scenario_are_found(fields: str) -> None:
    assert not is_valid(with_fields(fields))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"name": None},
        {"question": " "},
        {"seeds": 3},
        {"seeds": []},
        {"seeds": [0, 0]},
        {"seeds": [-1]},
        {"scenarios": []},
        {"scenarios": [{"rounds": 1}]},
        {"scenarios": {"name": "b"}},
        {"default": {}},
        {"defaults": {"name": "b"}},
        {"tune": {"space": {"num_clients": [1, 2]}}},
        {"tune": {"space": {"rounds": {"low": 1}}}},
        {"tune": {"objective": "f1"}},
        {"tune": {"trials": 0}},
        {"tune": {"set": {"rounds": [1, 2]}}},
        {"tune": {"set": {"round": 1}}},
        {"conformance": {"b": {"band": [1]}}},
        {"conformance": {"b": {"bands": [1, 2]}}},
    ],
    ids=str,
)
def test_usual_mistakes_in_a_file_are_found(change: dict[str, Any]) -> None:
    assert not is_valid(yaml.safe_load(SUITE) | change)
    assert is_valid(yaml.safe_load(SUITE))


def test_a_file_may_leave_keys_empty_and_set_options_where_another_place_names_the_part() -> None:
    assert is_valid(parse_yaml(f"{SUITE}defaults:\ntune:\nconformance:\n"))
    assert is_valid(with_fields("width: 3", defaults={"model": "./net.py:Net"}))
    assert is_valid(with_fields("model: ./net.py:Net", tune={"set": {"width": 3}}))


def test_installed_parts_are_in_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"dataset": "two-squares", "model": "softmax", "partition": "by-label", "algorithm": "partial-step"}
    kinds |= {"optimiser": "rmsprop", "aggregation": "norm-capped", "augmentation": "roll"}
    offer(tmp_path, monkeypatch, "own-parts", **{f"{kind}_{name}": "own_parts:x" for kind, name in kinds.items()})
    printed = json.loads(fedbench_here("suites", "--schema", folder=tmp_path).out)
    assert jsonschema.Draft7Validator(printed).is_valid(read_yaml(OWN_PACKAGE))
    assert not is_valid(read_yaml(OWN_PACKAGE))
