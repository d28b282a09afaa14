"""What git answers about the code that is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fedbench.util import commits
from fedbench.util.commits import PLACES, Commit, commit_of, git_answer, short_commit


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *author, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with two commits of one file."""
    git(tmp_path, "init")
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text)
        git(tmp_path, "add", "file")
        git(tmp_path, "commit", "-m", text)
    return tmp_path


def test_commits_are_counted_and_a_change_makes_the_commit_dirty(repository: Path) -> None:
    clean = commit_of(repository)
    assert (git(repository, "rev-parse", "HEAD"), 2, False) == (clean.name, clean.count, clean.is_shallow)
    assert "false" == clean.mlflow_tags["mlflow.source.git.dirty"]
    (repository / "file").write_text("three")
    dirty = commit_of(repository)
    assert (f"{clean.name}-dirty", f"{clean.name[:7]}-dirty") == (dirty.name, short_commit(dirty.name))
    assert "true" == dirty.mlflow_tags["mlflow.source.git.dirty"]
    assert Commit("none", 0) == commit_of(None)


@pytest.mark.parametrize("fault", ["a damaged index", "no answer in time"])
def test_without_an_answer_nobody_says_that_the_code_is_clean(
    fault: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = commit_of(repository).name
    (repository / "file").write_text("three")
    if fault == "a damaged index":
        (repository / ".git" / "index").write_bytes(b"no index")
    else:
        slow = tmp_path / "bin" / "git"
        slow.parent.mkdir()
        slow.write_text('#!/bin/sh\n[ "$1" = status ] && exec sleep 60\nPATH="${PATH#*:}" exec git "$@"\n')
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", str(slow.parent), prepend=":")
        monkeypatch.setattr(commits, "SECONDS", 2)
    found = commit_of(repository)
    assert (f"{name}-unknown", f"{name[:7]}-unknown") == (found.name, short_commit(found.name))
    assert {"mlflow.source.git.commit": name} == found.mlflow_tags


def test_a_hook_of_another_repository_does_not_lend_its_commit(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    git(other, "commit", "--allow-empty", "-m", "other")
    before = commit_of(repository)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert before == commit_of(repository)


def test_git_lists_the_variables_that_it_is_not_given() -> None:
    listed = git(Path(), "rev-parse", "--local-env-vars").split()
    assert {name for name in listed if not name.startswith("GIT_CONFIG")} <= PLACES


def test_names_of_files_may_have_any_encoding(repository: Path) -> None:
    (repository / "caf\udce9").write_text("x")
    git(repository, "config", "core.quotePath", "false")
    assert git_answer("status", "--porcelain", folder=repository) == "?? caf\ufffd"


def test_outside_a_repository_there_is_no_answer(tmp_path: Path) -> None:
    assert git_answer("rev-parse", "HEAD", folder=tmp_path) is None
    assert git_answer("rev-parse", "HEAD", folder=tmp_path / "missing") is None
