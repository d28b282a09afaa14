"""What `fedbench new` writes: files that work as they are, whole or not at all, and never over others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import fedbench_here

from fedbench.executors import in_process
from fedbench.measures import Verdict
from fedbench.new import TEMPLATES, WHAT, write_new
from fedbench.runs.data import DataSource
from fedbench.runs.suite_run import run_suite
from fedbench.suites.loading import load_suite
from fedbench.tracking.memory import MemoryTracker
from fedbench.util.errors import DataError, SuiteError

PARTS = [kind for kind in WHAT if kind != "suite"]


@pytest.mark.parametrize("kind", WHAT)
def test_what_it_writes_runs(kind: str, tmp_path: Path) -> None:
    *_, path = write_new(kind, "own-thing", tmp_path)
    small = {"rounds": 1, "examples_per_client": 20}
    suite = load_suite(path, overrides=small, seeds=[0])
    assert "own_thing" == suite.name == path.stem
    assert "my_" not in "".join(each.read_text() for each in tmp_path.iterdir())
    outcomes = list(run_suite(suite.runs, DataSource(), MemoryTracker(), in_process.execute))
    assert 3 == len(outcomes)
    assert [] == [outcome.result.reason for outcome in outcomes if outcome.result.verdict is Verdict.FAILED]


@pytest.mark.parametrize("kind", WHAT)
def test_every_template_is_one_of_a_kind(kind: str) -> None:
    assert (TEMPLATES / f"{kind}.yaml").exists()
    assert (kind != "suite") == (TEMPLATES / f"{kind}.py").exists()
    assert {f"{each}.yaml" for each in WHAT} | {f"{each}.py" for each in PARTS} == {
        path.name for path in TEMPLATES.iterdir() if path.is_file()
    }


def test_the_command_says_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    done = fedbench_here("new", "model", "MyNet", folder=tmp_path)
    assert (0, "") == (done.code, done.err)
    assert [
        "my_net.py: the model",
        "my_net.yaml: a suite that compares it with a built-in one",
    ] == done.out.splitlines()[:2]
    assert "class MyNet(nn.Module):" in (tmp_path / "my_net.py").read_text()
    assert {"my_net.py", "my_net.yaml"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["", "1net", "my net", "../net", "-net", "net-", "näme", "a" * 61, "my.net", "a\nb"])
def test_a_name_that_no_module_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"it must be up to 60 letters"):
        write_new("model", name, tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"), [("model", "torch"), ("partition", "class"), ("partition", "print"), ("partition", "np")]
)
def test_a_name_that_something_else_has_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=f"NAME is {name}, which Python or an installed module is called"):
        write_new(kind, name, tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_the_help_names_every_kind(tmp_path: Path) -> None:
    text = fedbench_here("new", "--help", folder=tmp_path).out
    assert [] == [kind for kind in WHAT if kind not in text]


def test_an_unknown_kind(tmp_path: Path) -> None:
    done = fedbench_here("new", "modle", "x", folder=tmp_path)
    assert (2, "unknown kind 'modle'; did you mean model?" in done.err) == (done.code, True)


@pytest.mark.parametrize("there", ["net.py", "net.yaml"])
def test_nothing_is_overwritten_and_nothing_half_written(there: str, tmp_path: Path) -> None:
    (tmp_path / there).symlink_to("nowhere")
    with pytest.raises(SuiteError, match=rf"{there} is there already"):
        write_new("model", "net", tmp_path)
    assert [there] == [path.name for path in tmp_path.iterdir()]


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def slow(source: Path, target: Path) -> None:
        if target.suffix == ".yaml":
            target.write_text("mine")
        link(source, target)

    monkeypatch.setattr(os, "link", slow)
    with pytest.raises(DataError, match="cannot be written: File exists"):
        write_new("model", "net", tmp_path)
    assert {"net.yaml": "mine"} == {path.name: path.read_text() for path in tmp_path.iterdir()}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cannot be written: No such file or directory"):
        write_new("suite", "net", tmp_path / "no")
