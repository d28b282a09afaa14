"""Text from anywhere as each target takes it: a terminal, an error's line, a figure, a spreadsheet."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbench.cli.options import CONTROL, console
from fedbench.reports.tables import WRITERS
from fedbench.util.errors import DataError
from fedbench.util.files import with_home
from fedbench.util.text import LONGEST_LINE, one_line, printable


def test_what_a_terminal_must_not_be_sent_is_escaped() -> None:
    assert r"red \x1b[31m, bell \x07, reversed \u202e" == printable("red \x1b[31m, bell \x07, reversed \u202e")
    assert "a b  c" == printable("a\n  b  c")
    assert "a b c" == one_line("a\n  b  c")
    assert r"a \x1b" == str(DataError("a\n\x1b"))


@given(st.text(max_size=50))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()


def test_a_long_line_keeps_its_beginning_and_its_end() -> None:
    line = printable(f"begin{'x' * 800_000}end")
    assert len(line) <= LONGEST_LINE
    assert (line[:5], line[-3:]) == ("begin", "end")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:secret@host/data", "http://me:***@host/data"),
        ("http://me:sec@ret@host:80/data", "http://me:***@host:80/data"),
        ("http://:secret@host", "http://:***@host"),
        ("http://host:80/data@x", "http://host:80/data@x"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
    ],
)
def test_a_password_in_a_url_is_not_shown(url: str, shown: str) -> None:
    assert f"{shown} does not answer" == str(DataError(f"{url} does not answer"))


def test_a_table_on_the_terminal_is_escaped_and_keeps_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, colour in ((io.StringIO(), ""), (Terminal(), "\x1b[32m")):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("TERM", "xterm-256color")
        console().print("name \x1b]0;title\x07 \x9b2J", style="green")
        shown = stream.getvalue()
        assert r"\x1b]0;title" in shown
        assert colour in shown
        assert CONTROL.search(shown) is None


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("~", "/home/me"),
        ("~/data", "/home/me/data"),
        ("~/net.py:Net", "/home/me/net.py:Net"),
        ("--data-dir=~/data", "--data-dir=/home/me/data"),
        ("sqlite:///~/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("--storage=sqlite:///~/optuna.db", "--storage=sqlite:////home/me/optuna.db"),
        *((each, each) for each in ("~draft.yaml", "a~", "--only=~x", "--set=a=~/b", "./~/x", "postgresql://~/db", "")),
    ],
)
def test_the_home_folder_of_a_path(text: str, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert whole == with_home(text)


def test_a_home_folder_that_nobody_knows_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(DataError, match=r"^~/x: the home folder is not known: set HOME, or give the whole path$"):
        with_home("~/x")


def test_a_spreadsheet_computes_no_name() -> None:
    table = pd.DataFrame({"name": ["=cmd|' /C calc'!A0", "-x", "plain"], "value": [-1.5, 2.0, 3.0]})
    file = io.BytesIO()
    WRITERS[".csv"](table, file)
    assert ["name,value", "'=cmd|' /C calc'!A0,-1.5", "'-x,2.0", "plain,3.0"] == file.getvalue().decode().split("\n")[
        :4
    ]
