"""The Python API: a suite from a notebook or a script is run and recorded as by the command, and comes as a table."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from command import fedbench_here
from pandas.testing import assert_frame_equal

import fedbench
from fedbench.algorithms.fedprox import FedProx
from fedbench.suites.objects import plain
from fedbench.util.imports import import_file

FIELDS = {"examples_per_client": 20, "rounds": 2, "local_epochs": 1}
SUITE = {"name": "mine", "question": "Does it work?", "seeds": [0], "defaults": FIELDS, "scenarios": [{"name": "a"}]}
PARTS = """
from torch import nn

def net(width: int = 8):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
"""


def of(**scenario: Any) -> dict[str, Any]:
    return SUITE | {"scenarios": [{"name": "a", **scenario}]}


def imported(monkeypatch: pytest.MonkeyPatch, name: str, text: str, path: Path | None) -> ModuleType:
    """A module as Python has it after ``import name``; without a path, as a notebook has it."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    if path:
        path.write_text(text)
        module.__file__ = str(path)
    exec(text, module.__dict__)  # noqa: S102 - our own text
    return module


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns/mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")


# Runs and results


def test_a_mapping_is_run_recorded_and_read_back() -> None:
    suite = of(num_clients=(2, 3), learning_rate=torch.tensor(0.1, dtype=torch.float64))
    torch.set_num_threads(2)
    table = fedbench.run(suite, workers=1, store_models=False)
    assert 2 == torch.get_num_threads()
    torch.set_num_threads(1)
    assert ["a num_clients=2", "a num_clients=3"] == list(table.cell)
    assert [2, 3] == list(table.num_clients)
    assert [True, True] == list(table.executed)
    assert [0.1, 0.1] == list(table.majority_rate)
    same = {"check_like": True, "check_dtype": False}
    assert_frame_equal(table.drop(columns="executed"), fedbench.results("mine").drop(columns="run_id"), **same)
    assert [False, False] == list(fedbench.run(suite, workers=1, store_models=False).executed)
    assert [1, 2, 1, 2] == list(fedbench.results(suite, per="round")["round"])


def test_the_command_and_the_api_know_each_others_runs(tmp_path: Path) -> None:
    changes = FIELDS | {"interpolation": False}
    table = fedbench.run("quickstart", only="two-models", seeds="0", overrides=changes, workers=1, store_models=False)
    assert ["two-models init=shared", "two-models init=independent"] == [cell.split(" ex")[0] for cell in table.cell]
    settings = [f"--set={field}={value}" for field, value in {**FIELDS, "interpolation": "false"}.items()]
    done = fedbench_here(
        "run", "quickstart", "--only=two-models", "--seeds=0", "--workers=1", *settings, folder=tmp_path
    )
    assert "0 runs executed, 2 were already finished" in done.out


def test_a_run_that_fails_has_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    (row,) = fedbench.run(of(require_accuracy=1.0), workers=1, store_models=False).to_dict("records")
    assert ("failed", True) == (row["verdict"], row["reason"].startswith("accuracy "))
    assert ["fedbench: 1 of 1 runs failed; the column reason says why"] == caplog.messages


def test_mlflow_keeps_the_address_that_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    other = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    fedbench.run(SUITE, workers=1, store_models=False, tracking_uri=other)
    assert not mlflow.is_tracking_uri_set()


def test_ctrl_c_says_how_much_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedbench.runs import suite_run

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(suite_run, "run_suite", interrupted)
    with pytest.raises(KeyboardInterrupt, match="0 of 1 runs are finished; the same command resumes"):
        fedbench.run(SUITE)


SCRIPT = "import fedbench\nprint(*fedbench.run({suite!r}, workers=2).verdict)\n"


@pytest.mark.slow
def test_a_script_needs_no_guard_for_its_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(suite=SUITE | {"seeds": [0, 1]}))
    environment = os.environ | {"PYTHONPATH": str(Path(fedbench.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ("ok ok\n", "") == (re.sub("collapsed|below majority", "ok", done.stdout), done.stderr)


# Objects in place of names


def test_a_function_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = imported(monkeypatch, "own_net", PARTS, tmp_path / "own_net.py").net
    (row,) = fedbench.run(of(model=net, width=4), workers=1, store_models=False).to_dict("records")
    assert ("./own_net.py:net", 4) == (row["model"], row["width"])


def test_objects_become_names() -> None:
    import wave

    found = plain({"algorithm": FedProx(proximal_weight=0.5), "model": [torch.nn.Linear], "n": (range(2), Path("a"))})
    assert {"use": "fedprox", "proximal_weight": 0.5} == found["algorithm"]
    assert ["torch.nn.modules.linear:Linear"] == found["model"]
    assert [[0, 1], "a"] == found["n"]
    assert wave.__file__ == plain(wave)


def a_part_inside_a_function() -> Callable[[], None]:
    def net() -> None: ...

    return net


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda notebook, _: notebook.net, "net was not read from a Python file, so its source cannot be known: save"),
        (lambda *_: a_part_inside_a_function(), "cannot be found by that name: define it at the top level"),
        (lambda *_: lambda: None, "<lambda> of "),
        (lambda *_: int, "int was not read from a Python file"),
        (lambda _, replaced: replaced, "net of "),
    ],
)
def test_an_object_without_a_source_is_refused(
    make: Callable[[Any, Any], Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = imported(monkeypatch, "own_notebook", PARTS, None)
    module = imported(monkeypatch, "own_file", PARTS, tmp_path / "own_file.py")
    replaced, module.net = module.net, None  # type: ignore[attr-defined]
    with pytest.raises(fedbench.SuiteError) as caught:
        fedbench.run(of(model=make(notebook, replaced)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_runs_a_suite_where_it_is_read_for_a_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(suite=SUITE))
    from fedbench.util.imports import file_digest

    with pytest.raises(fedbench.SuiteError, match=r"put the call of fedbench\.run below `if __name__ == ") as caught:
        import_file(path, file_digest(path))
    assert str(caught.value).startswith(f"{path} runs a suite while")


# Bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"suite": "quickstrat"}, "unknown suite 'quickstrat'; did you mean quickstart?"),
        ({"suite": Path("no.yaml")}, "no.yaml: there is no such file"),
        ({"suite": 3}, "suite is 3; it must be a suite's name, a path or a mapping"),
        ({"suite": {}}, "the suite: name is missing"),
        ({"suite": of(rounds=0)}, "the suite: scenario a: rounds is 0; it must be at least 1"),
        ({"suite": SUITE, "seeds": 3}, "seeds is 3; it must be a list of whole numbers"),
        ({"suite": SUITE, "seeds": "a"}, "'a' is not a list of seeds"),
        ({"suite": SUITE, "only": "b"}, "unknown scenario 'b'"),
        ({"suite": SUITE, "overrides": {"round": 1}}, "unknown key 'round'; did you mean rounds?"),
        ({"suite": SUITE, "only": 3}, "only is 3; it must be a list of scenarios"),
        ({"suite": SUITE, "overrides": 3}, "overrides is 3; it must be a mapping of fields"),
        ({"suite": SUITE, "workers": 0}, "workers is 0; it must be at least 1 or null"),
        ({"suite": SUITE, "workers": 10_000}, "workers is 10000; it must be at most 1,024 or null"),
        ({"suite": SUITE, "memory_per_run": math.inf}, "memory_per_run is inf; it must be "),
        ({"suite": SUITE, "executor": "dask"}, "executor: unknown executor 'dask'; choose from local, ray"),
        ({"suite": SUITE, "fresh": "yes"}, "fresh is 'yes'; it must be true or false"),
        ({"suite": SUITE, "tracking_uri": Path("mlruns")}, "tracking_uri is PosixPath('mlruns'); it must be text"),
        ({"suite": SUITE, "gpus_per_run": -1}, "gpus_per_run is -1; it must be at least 0"),
        ({"suite": SUITE, "device": "tpu"}, "--device tpu: this machine has "),
        ({"suite": SUITE, "address": "a:1"}, "need --executor ray"),
        ({"suite": of(dataset="mnist", examples_per_client=10)}, "fedbench data fetch mnist"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_recorded(
    arguments: dict[str, Any], expected: str, empty_store: bytes
) -> None:
    with pytest.raises(fedbench.FedbenchError) as caught:
        fedbench.run(**arguments, data_dir="data")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert empty_store == Path("mlruns/mlflow.db").read_bytes()


def test_results_that_are_not_there(made: str) -> None:
    with pytest.raises(fedbench.StoreError, match="suite mine has no runs"):
        fedbench.results("mine")
    with pytest.raises(fedbench.SuiteError, match="per is 'seed'; it must be run or round"):
        fedbench.results("made", per="seed", tracking_uri=made)  # type: ignore[arg-type]
    assert 18 == len(fedbench.results("made", tracking_uri=made))


# Names


def test_importing_fedbench_is_quick() -> None:
    script = "import sys, fedbench; print(sorted({'torch', 'mlflow', 'pandas', 'pydantic', 'yaml'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(fedbench.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


def test_every_name_of_the_package_is_there_and_others_are_not() -> None:
    assert all(hasattr(fedbench, name) for name in fedbench.__all__)
    assert {*fedbench.__all__} <= {*dir(fedbench)}
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        fedbench.runn  # type: ignore[attr-defined]  # noqa: B018
