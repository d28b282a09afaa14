"""The commands on what is recorded, from arguments to exit codes; the first of them in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import fedbench_here
from made_store import address, record
from made_suite import TEXT, made_suite

PACKAGE = Path(__file__).parents[2]


def fedbench(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error; the home folder is one of its own."""
    done = fedbench_here(*arguments, folder=folder)
    return done.code, done.out, done.err


def process(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """The same by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "fedbench", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PACKAGE), "HOME": str(folder / "home"), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a suite has run."""
    folder: Path = tmp_path_factory.mktemp("results")
    record(made_suite(folder, TEXT.replace("[0, 1, 2]", "[0, 1]")), address(folder))
    return folder


def test_a_report_is_written_beside_the_store_and_kept_in_it(folder: Path) -> None:
    code, out, err = process("report", "made.yaml", folder=folder)
    assert (0, "") == (code, err)
    page = folder / "mlruns" / "reports" / "made" / "report.html"
    assert out.startswith("mlruns/reports/made/report.html: open it in a browser.")
    assert "What is shown?" in page.read_text()
    assert len(list((folder / "mlruns" / "artifacts").rglob("report.html"))) == 1
    assert not (folder / "home").exists()


def test_a_report_can_be_written_elsewhere_alone(folder: Path) -> None:
    before = len(list((folder / "mlruns").rglob("*")))
    code, out, _ = fedbench("report", "made", "--out", "here", "--no-log", "--json", folder=folder)
    assert 0 == code
    assert 6 == len(json.loads(out)["cells"])
    assert (folder / "here" / "report.html").exists()
    assert before == len(list((folder / "mlruns").rglob("*")))


def test_a_comparison_is_printed_as_a_table_or_as_json(folder: Path) -> None:
    code, out, err = fedbench("compare", "mlruns", address(folder), folder=folder)
    assert (0, "") == (code, err)
    assert "6 equal." in out
    code, out, _ = fedbench("compare", "mlruns", "mlruns", "--json", folder=folder)
    assert {"equal"} == {cell["change"] for cell in json.loads(out)["cells"]}


def test_runs_are_exported(folder: Path) -> None:
    code, out, err = fedbench("export", "made", "--out", "made.csv", folder=folder)
    assert (0, "made.csv: 20 rows\n", "") == (code, out, err)
    assert 21 == len((folder / "made.csv").read_text().splitlines())


def test_runs_are_listed_and_shown(folder: Path) -> None:
    code, out, _ = fedbench("runs", "list", "made", folder=folder)
    assert 0 == code
    assert "12 runs." in out
    (first, *_) = json.loads(fedbench("runs", "list", "--json", folder=folder)[1])["runs"]
    code, out, _ = fedbench("runs", "show", first["run_id"][:8], folder=folder)
    assert 0 == code
    assert re.search(rf"run +{first['run_id']}", out)
    assert re.search(r"accuracy +0\.7", out)


def test_deleting_asks_first(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    code, out, _ = fedbench("runs", "delete", "made", "--cell", "a", folder=tmp_path)  # no answer
    assert 0 != code
    assert "Delete these 2 runs?" in out
    code, out, _ = fedbench("runs", "delete", "made", "--status", "finished", "--yes", folder=tmp_path)
    assert (0, True) == (code, out.startswith("2 runs deleted"))
    assert "0 runs." in fedbench("runs", "list", "made", folder=tmp_path)[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["report", "nosuch"], "suite nosuch has no runs in sqlite:///mlruns/mlflow.db: fedbench run nosuch"),
        (["report", "nosuch.yaml"], "nosuch.yaml"),
        (["report", "made", "--out", "made.yaml"], "the report cannot be written to made.yaml"),
        (["export", "made", "--out", "made.xlsx"], "it ends in .xlsx; choose .csv or .parquet"),
        (["compare", "mlruns", "nosuch"], "nosuch is no store, invocation or commit"),
        (["compare", "mlruns", "mlruns", "--metric", "nosuch"], "have no cell with nosuch in common"),
        (["compare", "mlruns", "mlruns", "--suite", "nosuch"], "has no finished runs of suite nosuch"),
        (["runs", "list", "--status", "lost"], "--status lost: choose from finished, failed"),
        (["runs", "show", "zzzzzz"], "no run begins with zzzzzz: see their ids with fedbench runs list"),
        (["runs", "delete", "made"], "say which runs: --run, --cell or --status"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], line: str) -> None:
    code, out, err = fedbench(*arguments, folder=folder)
    assert (2, "") == (code, out)
    assert line in err
    assert re.fullmatch(r"fedbench: error: [^\n]+\n", err)


@pytest.mark.parametrize("arguments", [["report", "made"], ["runs", "list"], ["compare", "a#b", "b"]])
def test_without_a_store_none_is_made(tmp_path: Path, arguments: list[str]) -> None:
    code, _, err = fedbench(*arguments, folder=tmp_path)
    assert 2 == code
    assert re.fullmatch(r"fedbench: error: [^\n]+\n", err)
    assert [] == list(tmp_path.iterdir())
