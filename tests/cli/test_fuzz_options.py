"""Whatever a command is given, it ends with its exit code and, unless it succeeded, one line for each problem.

No run is computed: the suite's dataset is not there, and what would measure, serve or download is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from command import fedbench_here
from fuzzing import SECONDS, TEXT, fuzz, require_plain
from hypothesis import example
from hypothesis import strategies as st
from typer.main import get_command

from fedbench.cli.app import app
from fedbench.util.errors import BenchmarkError

SUITE = "name: s\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, dataset: mnist, num_clients: [2, 3]}]\n"
NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "1e-9",
    "1e999",
    "inf",
    "-inf",
    "nan",
    "9" * 30,
    "-" + "9" * 400,
    "²",
    "٣",
    "0x1",
)
PATHS = ("folder", "pipe", "missing", "missing/deep", "junk", "s.yaml", "/dev/null", "/dev/zero", "/", "", "s.yaml/x")
PLACES = ("junk.db", "sqlite:///junk", "sqlite:///missing.db", "sqlite://", "sqlite:////dev/null", "x://y", "folder")
WORDS = ("s.yaml", "made", "a", "model", "mnist", "accuracy", "rounds=1", "rounds=inf", "0-2", "cpu", "failed", "x.csv")
TEXTS = (
    (TEXT | st.sampled_from(NUMBERS + PATHS + PLACES + WORDS))
    .filter(lambda text: "\x00" not in text and "http" not in text)
    .map(lambda text: text.replace("\ud800", "\udcff"))
)  # as Python has bytes of an argument that are not UTF-8
COMMANDS: dict[tuple[str, ...], Any] = {}


def _add(command: Any, names: tuple[str, ...] = ()) -> None:
    for name, each in getattr(command, "commands", {}).items():
        _add(each, (*names, name))
    if not getattr(command, "commands", {}):
        COMMANDS[names] = command


_add(get_command(app))


@st.composite
def calls(draw: st.DrawFn) -> list[str]:
    """A command with its arguments and up to three options."""
    names = draw(st.sampled_from(sorted(COMMANDS)))
    arguments, options = list(names), []
    for parameter in COMMANDS[names].params:
        if parameter.param_type_name == "option":
            options += [(parameter, name) for name in parameter.opts + parameter.secondary_opts]
        elif parameter.required or draw(st.booleans()):
            arguments.append(draw(st.sampled_from(["s.yaml", "made"]) | TEXTS))
    for parameter, name in draw(st.lists(st.sampled_from(options), max_size=3)) if options else ():
        arguments += [name] if parameter.is_flag else [f"{name}={draw(_values(parameter))}"]
    return arguments


def _values(parameter: Any) -> st.SearchStrategy[str]:
    """Texts, mostly of the parameter's type."""
    if parameter.type_descriptor.annotation in (int, float):
        return st.sampled_from(NUMBERS) | st.integers().map(str) | st.floats().map(str) | TEXTS
    return st.sampled_from(PATHS) | TEXTS if parameter.type_descriptor.annotation is Path else TEXTS


def _refuse(*_: object, **__: object) -> Any:
    raise BenchmarkError("nothing is measured here")


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what is no suite, no store or no file; for long searches with results in its store."""
    folder = Path(request.getfixturevalue("made").removeprefix("sqlite:///")).parent.parent if SECONDS else tmp_path
    for slow in (
        "bench.run.require_pytest",
        "datasets.ham10000_fetch.new_session",
        "datasets.idx.new_session",
        "gate.recording.open_regression",
        "gate.speed.check_against",
        "reports.history_figures.write_history",
        "reports.page.make_report",
        "runs.doctor.examine",
        "tracking.mlflow.listing.delete_runs",
        "tracking.mlflow.ui.serve",
    ):
        monkeypatch.setattr(f"fedbench.{slow}", _refuse)
    (folder / "s.yaml").write_text(SUITE)
    (folder / "folder").mkdir()
    (folder / "junk").write_bytes(bytes(range(256)))
    (folder / "junk.db").write_bytes(bytes(range(256)) * 20)
    os.mkfifo(folder / "pipe")
    return folder


@fuzz(calls(), examples=100)
@example(["compare", "x" * 300, "y"])
@example(["history", "9" * 5000])
@example(["runs", "show", "made", "--tracking-uri=sqlite:"])
@example(["runs", "list", "--tracking-uri=sqlite:////dev/null"])
def test_calls(folder: Path, arguments: list[str]) -> None:
    done = fedbench_here(*arguments, folder=folder)
    assert done.code in (0, 1, 2), done
    assert "error: unexpected" not in done.err, done.err
    assert "[Errno" not in done.err, done.err
    assert done.code != 2 or "fedbench: error: " in done.err or not arguments
    for line in filter(None, done.err.split("\n")):
        require_plain(line)
    for line in done.out.split("\n"):
        assert line.isprintable(), line
