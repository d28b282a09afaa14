"""Listing suites executes no code that nobody asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import fedbench_here

from fedbench.suites.files import read_name
from fedbench.util.errors import SuiteError

SUITE = """
name: own
question: Does it work?
seeds: [0]
defaults: {model: {use: '../net.py:Net', width: 3}}
scenarios: [{name: a}]
"""
NET = """
from pathlib import Path
Path("executed").touch()
from torch import nn
class Net(nn.Module):
    def __init__(self, width=1):
        super().__init__()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/own.yaml").write_text(SUITE)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def test_all_suites_are_listed_without_executing_their_own_parts(folder: Path) -> None:
    done = fedbench_here("suites", folder=folder)
    assert 0 == done.code
    assert "not executed: ../net.py:Net" in done.out
    suites = json.loads(fedbench_here("suites", "--json", folder=folder).out)["suites"]
    (own,) = (each for each in suites if each["suite"] == "own")
    assert (["../net.py:Net"], None, None) == (own["own"], own["cells"], own["runs"])
    assert not (folder / "executed").exists()


def test_a_suite_that_also_names_what_is_not_there_is_not_executed_either(folder: Path) -> None:
    (folder / "suites/own.yaml").write_text(SUITE.replace("{name: a}", "{name: a, partition: ./missing.py:deal}"))
    done = fedbench_here("suites", folder=folder)
    assert 2 == done.code
    assert f"error: suites/own.yaml: there is no file {folder / 'suites/missing.py'}" in done.err
    assert not (folder / "executed").exists()


def test_hidden_files_and_what_editors_leave_are_no_suites(folder: Path) -> None:
    for name in (".own.yaml", "._own.yaml", "#own.yaml", "~$own.yaml", "own.yaml~", ".own.yaml.swp"):
        (folder / "suites" / name).write_text("no suite")
    (folder / "suites/.#own.yaml").symlink_to("somebody@somewhere.1234")
    done = fedbench_here("suites", "--json", folder=folder)
    assert (0, "") == (done.code, done.err)
    assert 1 == [each["suite"] for each in json.loads(done.out)["suites"]].count("own")


@pytest.mark.parametrize("command", [("export", "--out", "own.csv"), ("report",), ("runs", "list"), ("history",)])
def test_commands_that_read_the_store_execute_nothing(folder: Path, command: tuple[str, ...]) -> None:
    fedbench_here(*command, "suites/own.yaml", folder=folder)
    assert not (folder / "executed").exists()


def test_one_suite_says_which_parts_were_executed(folder: Path) -> None:
    assert "Parts of its own, executed: ../net.py:Net" in fedbench_here("suites", "own", folder=folder).out
    assert (folder / "executed").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "name is null"), ("[1]", "name is null"), ("name: [a]", "name is ['a']"), ("a: b: c", "line 1")],
)
def test_a_file_without_a_name_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(SuiteError, match=r"own\.yaml: ") as caught:
        read_name(tmp_path / "own.yaml")
    assert expected in str(caught.value)
