"""Parts that are found by name or by reference: a user's own files, modules and packages, next to a suite."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from entry_points import offer

from fedbench.components import KINDS, Component, built_in_names, find
from fedbench.executors import choose_executor, in_process
from fedbench.measures import Verdict
from fedbench.runs.data import DataSource
from fedbench.runs.identity import fingerprint
from fedbench.runs.suite_run import run_suite
from fedbench.suites.cell import CellSpec
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import Suite
from fedbench.tracking.memory import MemoryTracker
from fedbench.util.errors import SuiteError

PARTS = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from fedbench.hooks import Algorithm
from fedbench.partitions import Partition

if TYPE_CHECKING:
    from somewhere import Table


def halves(table: Table, num_clients, examples_per_client, rng, seed_of_halves: Annotated[int, Field(ge=0)] = 1):
    """Examples in an order of its own, in equal parts."""
    order = np.random.default_rng(seed_of_halves).permutation(len(table.labels))
    return np.split(order[: num_clients * examples_per_client], num_clients)


@dataclass(frozen=True)
class Reversed(Partition):
    """The last examples come first."""

    is_equal: ClassVar[bool] = True
    skipped: int = 0

    def deal(self, table, num_clients, examples_per_client, rng):
        order = np.arange(len(table.labels))[::-1][self.skipped :]
        return order[: num_clients * examples_per_client].reshape(num_clients, -1)


@dataclass(frozen=True)
class Damped(Algorithm):
    """The server goes only some of the way to the average."""

    damping: Annotated[float, Field(ge=0, le=1)] = 0.5

    def server_step(self, average, context):
        return context.start + self.damping * (average - context.start), context.memory
'''
MODEL = """
from torch import nn


def net(width: int = 8):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
"""
DATASET = """
import numpy as np

from fedbench.datasets import DatasetInfo
from fedbench.datasets.content import make_dataset

INFO = DatasetInfo((1, 28, 28), 10, {"all": (100, 50)}, "CC0-1.0", "nobody", "https://example.org")


def load(data_dir, split):
    labels = np.arange(150) % 10
    images = np.random.default_rng(0).integers(0, 100, (150, 1, 28, 28), dtype=np.uint8)
    parts = ((images[rows], labels[rows]) for rows in (slice(100), slice(100, None)))
    return make_dataset("own", split, *parts, (0.5,), (0.5,), tuple("0123456789"), info=INFO)
"""
SUITE = """
name: own
question: Does it work?
seeds: [0]
defaults: {num_clients: 2, examples_per_client: 20, rounds: 1, local_epochs: 1}
scenarios: [{name: a, %s}]
"""


def suite_with(folder: Path, fields: str, **files: str) -> Suite:
    """A suite in a folder with these Python files."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    path = folder / "own.yaml"
    path.write_text(SUITE % fields)
    return load_suite(path)


def error_of(folder: Path, fields: str, **files: str) -> str:
    with pytest.raises(SuiteError) as caught:
        suite_with(folder, fields, **files)
    message = str(caught.value)
    assert "\n" not in message
    return message


def run(suite: Suite, execute: Any = in_process.execute) -> dict[str, float]:
    """The metrics of the suite's last run, when all of its runs have finished."""
    outcomes = list(run_suite(suite.runs, DataSource(), MemoryTracker(), execute))
    assert [] == [each.result for each in outcomes if each.result is None or each.result.verdict is Verdict.FAILED]
    last = next(each.result for each in outcomes if each.run == suite.runs[-1])  # workers may finish in another order
    assert last is not None
    return dict(last.metrics)


@pytest.fixture(autouse=True)
def _forget_modules() -> Any:
    """A module of one test is not that of the next."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


# By file, by module, by entry point


def test_parts_in_a_file_next_to_the_suite_are_run_with_their_options(tmp_path: Path) -> None:
    fields = "partition: ./own_parts.py:halves, algorithm: ./own_parts.py:Damped, damping: 0"
    suite = suite_with(tmp_path, fields, own_parts=PARTS)
    spec = suite.cells[0].spec
    assert {"seed_of_halves": 1, "damping": 0.0}.items() <= (spec.model_extra or {}).items()
    assert pytest.approx(0.1, abs=0.05) == run(suite)["accuracy"]  # the model stays as it was drawn
    assert run(suite_with(tmp_path, "partition: ./own_parts.py:Reversed, skipped: 5"))


def test_a_model_and_a_dataset_of_ones_own(tmp_path: Path) -> None:
    suite = suite_with(
        tmp_path,
        "model: ./own_net.py:net, width: [4, 16], dataset: ./own_data.py",
        own_net=MODEL,
        own_data=DATASET,
    )
    assert ["a width=4", "a width=16"] == [cell.label for cell in suite.cells]
    assert [4, 16] == [cell.spec.build_model()[1].out_features for cell in suite.cells]  # type: ignore[index]
    assert 0 <= run(suite)["accuracy"] <= 1
    (tmp_path / "own_net.py").write_text(MODEL.replace("784", "783"))
    assert suite.cells[0].spec != load_suite(suite.path).cells[0].spec


@pytest.mark.slow
def test_worker_processes_find_the_parts_too(tmp_path: Path) -> None:
    fields = "partition: ./own_parts.py:halves, seed_of_halves: [1, 2], model: ./own_net.py:net"
    suite = suite_with(tmp_path, fields, own_parts=PARTS, own_net=MODEL)
    here, there = run(suite), run(suite, choose_executor(2))
    assert [here[name] for name in ("loss", "client_drift")] == [there[name] for name in ("loss", "client_drift")]


def test_a_part_of_an_importable_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    assert run(suite_with(tmp_path, "partition: own_package.parts:Reversed, algorithm: own_package.parts:Damped"))


def test_a_part_of_an_installed_package_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text(PARTS)
    offer(tmp_path, monkeypatch, "own-parts", partition_halves="own_parts:halves")
    suite = suite_with(tmp_path, "partition: halves, seed_of_halves: 3")
    assert "halves" == suite.cells[0].spec.partition
    assert run(suite)


@pytest.mark.parametrize(
    ("dealt", "reason"),
    [
        ("[[0]]", "dealt to 1 clients instead of 2"),
        ("[[0, 1], [1, 2]]", "an example of client 1 is dealt twice"),
        ("[[0, 0], [1]]", "an example of client 0 is dealt twice"),
        ("[[0], [4000]]", "client 1 has example 4000 of 4000"),
        ("[[0], [-1]]", "client 1 has example -1 of 4000"),
        ("[[0], [0.5]]", "client 1 has no list of whole numbers"),
    ],
)
def test_a_partition_that_deals_wrongly_fails_its_run_in_one_line(tmp_path: Path, dealt: str, reason: str) -> None:
    text = f"def deal(t, k, n, r):\n    return {dealt}\n"
    suite = suite_with(tmp_path, "partition: ./own_parts.py:deal", own_parts=text)
    (outcome,) = run_suite(suite.runs, DataSource(), MemoryTracker(), in_process.execute)
    assert outcome.result is not None
    assert f"./own_parts.py:deal: {reason}" in str(outcome.result.reason)


def test_a_client_may_get_an_empty_list(tmp_path: Path) -> None:
    text = "def deal(t, k, n, r):\n    return [list(range(2 * n)), []]\n"
    suite = suite_with(tmp_path, "partition: ./own_parts.py:deal", own_parts=text)
    (outcome,) = run_suite(suite.runs, DataSource(), MemoryTracker(), in_process.execute)
    assert outcome.result is not None
    assert [0] == list(outcome.result.client_accuracy)


# Identity


def test_the_identity_of_a_run_changes_with_the_source_of_its_part(tmp_path: Path) -> None:
    def identity(text: str) -> str:
        return fingerprint(suite_with(tmp_path, "partition: ./own_parts.py:halves", own_parts=text).runs[0], "d", "cpu")

    first, changed = identity(PARTS), identity(f"{PARTS}\n# a comment\n")
    assert first != changed
    assert first == identity(PARTS)


def test_identity_does_not_depend_on_where_the_file_is(tmp_path: Path) -> None:
    def identity(folder: Path) -> str:
        folder.mkdir()
        return fingerprint(suite_with(folder, "algorithm: ./own_parts.py:Damped", own_parts=PARTS).runs[0], "d", "cpu")

    assert identity(tmp_path / "one") == identity(tmp_path / "two")


def test_a_package_is_identified_by_all_of_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    for name in ("__init__", "helper"):
        (package / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = find("partition", "own_package:deal").digest
    (package / "helper.py").write_text("x = 1\n")
    assert before != find("partition", "own_package:deal").digest


def test_a_spec_with_own_parts_is_pickled_with_them(tmp_path: Path) -> None:
    (cell,) = suite_with(tmp_path, "partition: ./own_parts.py:Reversed, skipped: 5", own_parts=PARTS).cells
    again = pickle.loads(pickle.dumps(cell.spec))  # noqa: S301 - our own bytes
    assert (again, hash(again)) == (cell.spec, hash(cell.spec))
    assert again.part("partition") == cell.spec.part("partition")
    assert 5 == again.part("partition").skipped
    assert cell.spec == cell.spec.replace({})
    assert 6 == cell.spec.replace({"skipped": 6}).get("skipped")


def test_a_file_that_changes_after_the_suite_was_read_is_run_as_it_was_and_the_run_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suite = suite_with(tmp_path, "model: ./own_net.py:net", own_net=MODEL)
    before = fingerprint(suite.runs[0], "d", "cpu")
    (tmp_path / "own_net.py").write_text("raise RuntimeError('the changed file')")
    run(suite)
    assert before == fingerprint(suite.runs[0], "d", "cpu")
    assert "own_net.py changed while the suite ran: its runs have it as it was at the start" in caplog.text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_of_windows_make_no_other_part(tmp_path: Path, end: str) -> None:
    (tmp_path / "own_net.py").write_bytes(MODEL.replace("\n", end).encode())
    (tmp_path / "own.yaml").write_bytes((SUITE % "model: ./own_net.py:net").replace("\n", end).encode())
    (cell,) = load_suite(tmp_path / "own.yaml").cells
    assert hashlib.sha256(MODEL.encode()).hexdigest() == cell.spec.component("model").digest


def test_a_pickled_part_needs_no_file(tmp_path: Path) -> None:
    """As on a machine of a cluster that does not have it."""
    (tmp_path / "own_net.py").write_text(MODEL)
    pickled = pickle.dumps(find("model", "./own_net.py:net", tmp_path))
    (tmp_path / "own_net.py").unlink()
    program = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).make(width=3)[1].out_features)"
    done = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, check=False)
    assert (b"3\n", b"") == (done.stdout, done.stderr)


# Parts with their options in a mapping


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ("model: {use: ./own_net.py:net}", ["a"]),
        ("model: {use: ./own_net.py:net, width: 4}", ["a"]),
        ("model: {use: ./own_net.py:net, width: [4, 16]}", ["a width=4", "a width=16"]),
        (
            "model: [simple-cnn, {use: ./own_net.py:net, width: [4, 16]}]",
            ["a model=simple-cnn width=1", "a model=./own_net.py:net width=4", "a model=./own_net.py:net width=16"],
        ),
        (
            "algorithm: [fedavg, {use: fedprox, proximal_weight: 0.5}], init: [shared, independent]",
            [
                f"a init={init} algorithm={algorithm}"
                for init in ("shared", "independent")
                for algorithm in ("fedavg", "fedprox proximal_weight=0.5")
            ],
        ),
    ],
)
def test_options_in_a_mapping_are_fields_of_the_cells_with_the_part(
    tmp_path: Path, fields: str, labels: list[str]
) -> None:
    assert labels == [cell.label for cell in suite_with(tmp_path, fields, own_net=MODEL).cells]


def test_a_mapping_and_a_field_of_its_own_give_the_same_cell(tmp_path: Path) -> None:
    specs = [
        suite_with(tmp_path, fields, own_net=MODEL).cells[0].spec
        for fields in ("model: {use: ./own_net.py:net, width: 4}", "model: ./own_net.py:net, width: 4")
    ]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("defaults", "own", "overrides", "width"),
    [
        ("{use: ./own_net.py:net, width: 4}", "", {}, 4),
        ("{use: ./own_net.py:net, width: 4}", "width: 5", {}, 5),
        ("{use: ./own_net.py:net, width: 4}", "width: 5", {"width": 6}, 6),
        ("{use: ./own_net.py:net, width: 4}", "model: ./own_net.py:net", {}, 8),
        ("{use: ./own_net.py:net, width: 4}", "model: {use: ./own_net.py:net}", {"width": 6}, 6),
        ("{use: ./own_net.py:net, width: 4}", "model: simple-cnn", {}, 1),
        ("./own_net.py:net, width: 4", "model: {use: ./own_net.py:net, width: 5}", {}, 5),
        ("./own_net.py:net", "width: 5", {"model": {"use": "./own_net.py:net", "width": 6}}, 6),
    ],
)
def test_what_is_set_later_replaces_an_option(
    tmp_path: Path, defaults: str, own: str, overrides: dict[str, object], width: int | None
) -> None:
    (tmp_path / "own_net.py").write_text(MODEL)
    text = SUITE.replace("{num_clients", f"{{model: {defaults}, num_clients") % own
    (tmp_path / "own.yaml").write_text(text)
    (cell,) = load_suite(tmp_path / "own.yaml", overrides=overrides).cells
    assert width == cell.spec.get("width")


def test_a_part_that_takes_any_option_gets_those_of_its_mapping(tmp_path: Path) -> None:
    fields = "model: {use: 'torchvision.models:resnet18', num_classes: [10, 7]}"
    cells = suite_with(tmp_path, fields).cells
    assert ["a num_classes=10", "a num_classes=7"] == [cell.label for cell in cells]
    assert [10, 7] == [cell.spec.build_model().fc.out_features for cell in cells]


def test_only_parameters_with_plain_defaults_are_options(tmp_path: Path) -> None:
    text = "class Other: ...\ndef net(widths=(3, 4), act: Other = None, depth=2, *rest): ...\n"
    (tmp_path / "own_net.py").write_text(text)
    assert ["depth"] == list(find("model", "./own_net.py:net", tmp_path).options.model_fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("model: {width: 4}", "scenario a: model is {'width': 4}; name the model with the key use"),
        ("model: {use: null}", "scenario a: model: use: unknown model null"),
        ("model: {use: [simple-cnn, cnn]}", "scenario a: model: use"),
        ("model: {}", "scenario a: model is {}; name the model with the key use"),
        ("model: {use: cnn, width: 4}", "scenario a: model: cnn does not take 'width'; it takes no options"),
        ("model: {use: ./own_net.py:net, depth: 4}", "./own_net.py:net does not take 'depth'; it takes width"),
        ("model: {use: ./own_net.py:net, rounds: 4}", "rounds is a field of all cells, not an option; rename it in"),
        ("model: {use: ./own_net.py:net, 3: 4}", "./own_net.py:net does not take 3; it takes width"),
        ("model: {use: ./own_net.py:net, width: []}", "model: width is an empty list"),
        ("model: {use: ./own_net.py:net, width: [4, 4]}", "model: width holds 4 twice"),
        ("model: {use: ./own_net.py:net, width: {a: 1}}", "model: width"),
        ("model: {use: ./own_net.py:net, width: wide}", "model: width is 'wide'; it must be a whole number"),
        ("model: {use: ./own_net.py:net, width: 4}, width: 5", "width is set here and by itself; keep one"),
        ("rounds: {use: 3}", "rounds is {'use': 3}; it must be a whole number"),
        (
            "model: {use: ./own_net.py:net, width: 4}, algorithm: {use: ./own_parts.py:rule, width: 4}",
            "./own_parts.py:rule and model ./own_net.py:net both have an option width; rename one of them",
        ),
    ],
)
def test_a_wrong_mapping_is_one_line(tmp_path: Path, fields: str, expected: str) -> None:
    assert expected in error_of(tmp_path, fields, own_net=MODEL, own_parts="def rule(width=1): ...\n")


def test_parts_that_share_an_option_have_their_own_defaults(tmp_path: Path) -> None:
    text = """
from torch import nn
def net(momentum: float = 0.3, nesterov=None):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10, momentum=momentum))
"""
    (cell,) = suite_with(tmp_path, "model: ./own_net.py:net", own_net=text).cells
    assert (0.3, True) == (cell.spec.build_model()[2].momentum, cell.spec.part("optimiser").is_plain)  # type: ignore[index]
    assert not cell.spec.has("momentum")
    expected = "sgd and model ./own_net.py:net both have an option momentum; rename one of them"
    assert expected in error_of(tmp_path, "model: ./own_net.py:net, momentum: 0.5")


def test_a_grid_in_a_mapping_is_counted_before_it_is_laid_out(tmp_path: Path) -> None:
    text = "def net(a=1, b=1, c=1, d=1): ...\n"
    values = list(range(500))
    fields = f"model: {{use: ./own_net.py:net, a: {values}, b: {values}, c: {values}, d: {values}}}"
    assert "62,500,000,000 runs are more than 100,000" in error_of(tmp_path, fields, own_net=text)


def test_a_module_next_to_a_file_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, "model: ./own_net.py:net", own_net="import own_layers", own_layers="")
    assert "imports own_layers.py next to it, which no run's identity would cover; put both in one file" in error


def test_a_file_is_executed_only_if_a_suite_names_it(tmp_path: Path) -> None:
    suite_with(tmp_path, "partition: iid", own_parts="raise RuntimeError('executed')")


# Bad input


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ("partition: ./no_parts.py:halves", "", "scenario a: partition: there is no file"),
        ("partition: ./own_parts.py:halvse", PARTS, "unknown attribute 'halvse'; did you mean halves?"),
        ("partition: ./own_parts.py:halves", "import os\n\n1 / 0\n", "ZeroDivisionError: division by zero (own_parts"),
        ("partition: ./own_parts.py:halves", "a b", "SyntaxError: invalid syntax (line 1)"),
        ("partition: ./own_parts.py:halves", "import sys\nsys.exit('no')", "SystemExit: no (own_parts.py, line 2)"),
        ("partition: ./own_parts.py:halves", "import no_such", "No module named 'no_such' (own_parts.py, line 1)"),
        ("partition: ./own_parts.py", PARTS, "name what to take from it, as in ./my_parts.py:my_partition"),
        ("partition: no_such_module:halves", "", "there is no module no_such_module; install it, or name a file"),
        ("partition: 'own_parts:'", PARTS, "name what to take from it"),
        (
            "algorithm: ./own_parts.py:Reversed",
            PARTS,
            "./own_parts.py:Reversed does not extend fedbench.hooks",
        ),
        ("partition: ./own_parts.py:Damped", PARTS, "does not extend fedbench.partitions.Partition"),
        ("partition: ./own_parts.py:halves, seed_of_halves: -1", PARTS, "seed_of_halves is -1; it must be at least 0"),
        ("partition: ./own_parts.py:halves, skipped: 1", PARTS, "unknown key 'skipped'"),
        ("partition: ./own_parts.py:halves, seed_of_halvs: 1", PARTS, "did you mean seed_of_halves?"),
        ("partition: [iid, './own_parts.py:halves'], seed_of_halves: 1", PARTS, "seed_of_halves: no part of this cell"),
        ("algorithm: ./own_parts.py:Damped, damping: high", PARTS, "damping is 'high'; it must be a number"),
        ("partition: ./own_parts.py:f", "def f(t, k, n, r, a): pass", "partition ./own_parts.py:f needs a"),
        ("partition: ./own_parts.py:f", "def f(t, k, n, r, rounds): pass", "an option cannot be called rounds"),
        ("dataset: ./own_data.py", "", "there is no file"),
        ("dataset: ./own_parts.py", PARTS, "dataset ./own_parts.py has no INFO"),
        (
            "partition: ./own_parts.py:f",
            "def f(t, k, n, r, a: Nope = 1): pass",
            "NameError: name 'Nope' is not",
        ),
    ],
)
def test_a_wrong_reference_is_one_line(tmp_path: Path, fields: str, text: str, expected: str) -> None:
    files = {"own_parts": text} if text else {}
    assert expected in error_of(tmp_path, fields, **files)


def test_a_name_that_is_built_in_and_an_entry_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, "own-parts", partition_iid="own_parts:halves")
    expected = "partition iid is built in and an entry point of own-parts; rename the entry point"
    assert expected in error_of(tmp_path, "partition: iid")


def test_two_packages_with_one_entry_point_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        offer(tmp_path / name, monkeypatch, f"own-{name}", partition_halves="own_parts:halves")
    assert "partition halves is an entry point of own-" in error_of(tmp_path, "partition: halves")


# The built-in parts


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_part_is_found_and_made_with_its_defaults(kind: str) -> None:
    own = {"quantity-skew": {"partition_sigma": 1.0}, "by-column": {"partition_column": "group"}}
    for name in built_in_names(kind):
        found = find(kind, name)
        assert Component(kind, name, found.target) == found
        assert found.make(**own.get(name, {})) is not None


def test_options_of_a_replaced_part_are_dropped_if_they_are_its_defaults() -> None:
    spec = CellSpec(algorithm="fedavgm")
    assert CellSpec(algorithm="fedprox") == spec.replace({"algorithm": "fedprox"})
    with pytest.raises(ValueError, match="fedprox does not read it"):
        CellSpec(algorithm="fedavgm", server_momentum=0.5).replace({"algorithm": "fedprox"})
