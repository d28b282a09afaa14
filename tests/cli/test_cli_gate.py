"""`fedbench baseline` and `fedbench check`, from their arguments to their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command import fedbench_here
from empty_store import put_empty_store
from typer.exceptions import TyperException

from fedbench.cli.app import app
from fedbench.core import WeightedMean
from fedbench.gate.history import read_history
from fedbench.util.errors import FedbenchError

PACKAGE = Path(__file__).parents[2]
SUITE = """
name: tiny
question: Is it worse?
seeds: [0, 1, 2]
defaults: {examples_per_client: 40, rounds: 2, local_epochs: 2, learning_rate: 0.1}
scenarios:
  - {name: grid, num_clients: [2, 3]}
"""
OTHER = {"FEDBENCH_KERNELS": "torch"}  # another environment on the same machine


def environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return inherited | {"PYTHONPATH": str(PACKAGE), "HOME": str(folder / "home"), "COLUMNS": "120"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    return tmp_path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite and its baseline."""
    folder: Path = tmp_path_factory.mktemp("kept")
    (folder / "tiny.yaml").write_text(SUITE)
    done = fedbench_here("baseline", "tiny.yaml", "--reserve", "1", "--workers", "1", folder=folder)
    runs = "2 cells, 8 runs (1 of 4 seeds in reserve)"
    said = f"baselines/tiny.json: {runs}. Commit it with the code that it was measured on.\n"
    assert (0, said) == (done.code, done.out)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "name a suite, give --speed --against REV, or both: fedbench check quickstart"),
        (["check", "--speed"], "--speed needs --against: give a revision too, such as main"),
        (["check", "tiny.yaml"], "there is no baselines/tiny.json: make it with fedbench baseline tiny"),
        (["check", "quikstart"], "unknown suite 'quikstart'; did you mean quickstart?"),
        (["check", "tiny.yaml", "--against", "HEAD"], "--against needs --speed: give it too"),
        (["check", "tiny.yaml", "--seeds", "4-1"], "--seeds: the range '4-1' falls"),
        (["check", "--speed", "--power"], "--power needs a suite: name one"),
        (["check", "tiny.yaml", "--minutes", "1"], "--minutes needs --speed: give it too"),
        (["check", "--speed", "--minutes", "nan"], "Invalid value for '--minutes'"),
        (["check", "tiny.yaml", "--junit", "tiny.yaml/check.xml"], "cannot write tiny.yaml/check.xml: "),
        (["baseline", "tiny.yaml", "--baselines", "tiny.yaml"], "cannot write tiny.yaml/tiny.json: "),
    ],
)
def test_bad_input_is_refused_in_one_line(
    folder: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises((FedbenchError, TyperException)) as refused:
        app(arguments, standalone_mode=False)
    said = refused.value.format_message() if isinstance(refused.value, TyperException) else str(refused.value)
    assert said.startswith(message)
    assert "\n" not in said


def test_without_a_baseline_the_exit_code_is_2_and_neither_torch_nor_mlflow_is_imported(folder: Path) -> None:
    script = (
        "import sys\n"
        "from fedbench.cli.app import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(sorted({'torch', 'mlflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "tiny.yaml"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    said = "fedbench: error: there is no baselines/tiny.json: make it with fedbench baseline tiny.yaml\n"
    assert (2, "[]\n", said) == (done.returncode, done.stdout, done.stderr)


def test_a_check_of_the_same_code_passes_and_is_recorded(kept: Path) -> None:
    pages = ("--junit", "out/check.xml", "--markdown", "out/check.md")
    put_empty_store(f"sqlite:///{kept}/mlruns/mlflow.db")
    done = fedbench_here("check", "tiny.yaml", *pages, "--workers", "1", folder=kept)
    assert 0 == done.code, done.err
    assert 2 == sum(line.endswith("same") for line in map(str.rstrip, done.out.splitlines()))
    assert "passed" in done.out.splitlines()[-1]
    suites = ET.fromstring((kept / "out/check.xml").read_text())  # noqa: S314 - our own
    assert 2 == len(suites.findall(".//testcase"))
    assert not suites.findall(".//failure")
    assert "passed" in (kept / "out/check.md").read_text()
    (check,) = read_history("tiny", f"sqlite:///{kept}/mlruns/mlflow.db").checks
    assert "passed" == check.outcome


def test_a_changed_model_fails_and_the_json_says_where(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average is three times as heavy."""
    add = WeightedMean.add
    monkeypatch.setattr(WeightedMean, "add", lambda mean, state, share: add(mean, state, 3 * share))
    done = fedbench_here("check", "tiny.yaml", "--json", "--no-log", "--workers", "1", folder=kept)
    assert 1 == done.code, done.err
    found = json.loads(done.out)
    assert not found["passed"]
    expected = "3 of 3 seeds, first in seed 0: round 1, the average of the same clients"
    assert [expected] * 2 == [cell["changed"] for cell in found["accuracy"]["cells"]]
    assert 2 == len(found["failures"])


def test_where_statistics_suggest_a_change_the_seeds_in_reserve_are_compared_too(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = WeightedMean.add
    monkeypatch.setattr(WeightedMean, "add", lambda mean, state, share: add(mean, state, -share))
    options = ("--ignore-bits", "--no-log", "--workers", "1", "--json")
    done = fedbench_here("check", "tiny.yaml", *options, folder=kept)
    cells = json.loads(done.out)["accuracy"]["cells"]
    assert [(3, 4, True)] * 2 == [(each["first_seeds"], len(each["now"]["values"]), each["paired"]) for each in cells]


@pytest.mark.slow
def test_another_environment_is_judged_by_statistics_and_passes(kept: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedbench", "check", "tiny.yaml", "--json", "--no-log", "--workers", "1"],
        cwd=kept,
        env=environment(kept) | OTHER,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    assert (0, True) == (done.returncode, found["passed"]), found
    assert any("computed with none, was kernels" in each for each in found["accuracy"]["other_environment"])
    assert {None} == {cell["changed"] for cell in found["accuracy"]["cells"]}


@pytest.mark.slow
def test_a_baseline_changes_only_for_a_reason_and_keeps_it(kept: Path, folder: Path) -> None:
    (folder / "baselines").mkdir()
    path = folder / "baselines/tiny.json"
    path.write_bytes((kept / "baselines/tiny.json").read_bytes())
    before = path.read_bytes()
    done = fedbench_here("baseline", "tiny.yaml", folder=folder)
    assert (2, before) == (done.code, path.read_bytes())
    assert "say why it changes with --reason TEXT" in done.err
    same = fedbench_here("baseline", "tiny.yaml", "--reason", "again", "--workers", "1", folder=folder)
    assert (0, before) == (same.code, path.read_bytes())
    assert "baselines/tiny.json is up to date; nothing was written." == same.out.splitlines()[-1]
    change = ("--reason", "wider", "--margin", "0.02", "--workers", "1")
    wider = fedbench_here("baseline", "tiny.yaml", *change, folder=folder)
    assert 0 == wider.code, wider.err
    content = json.loads(path.read_text())
    assert (["first baseline", "wider"], 0.02) == ([each["reason"] for each in content["history"]], content["margin"])


@pytest.mark.slow
def test_an_interrupted_check_ends_at_once_and_leaves_nothing(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "baselines").symlink_to(kept / "baselines")
    (tmp_path / "tiny.yaml").write_text(SUITE)
    process = subprocess.Popen(
        [sys.executable, "-m", "fedbench", "check", "tiny.yaml", "--no-log"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)  # it computes, or is about to
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (130, "") == (process.returncode, out), err
    assert err.splitlines()[-1].startswith("fedbench: interrupted")
    assert {"baselines", "tiny.yaml"} == {path.name for path in tmp_path.iterdir()} - {"home"}
