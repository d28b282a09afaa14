"""The git commit that is measured, as it is recorded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHORT = 7  # characters of a hash that are shown
SECONDS = 10  # for an answer; a repository that needs longer is left alone
# Variables by which git takes another repository than the working directory's; a hook has them of its own repository.
# `git rev-parse --local-env-vars` lists them, with those of the configuration, which a person may have set.
PLACES = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "COMMON_DIR"),
        *("IMPLICIT_WORK_TREE", "GRAFT_FILE", "SHALLOW_FILE", "PREFIX", "NAMESPACE", "REPLACE_REF_BASE"),
        *("NO_REPLACE_OBJECTS", "INTERNAL_SUPER_PREFIX"),
    )
)


@dataclass(frozen=True)
class Commit:
    """The commit of the code that is measured.

    Attributes
    ----------
    name
        The hash, with ``-dirty`` if tracked files differ from it and ``-unknown`` if git did not say whether they do;
        ``none`` outside a repository.
    count
        How many commits lead to it, itself included; 0 if git did not say.
    is_shallow
        Whether the repository lacks history, so that `count` is too small.
    """

    name: str
    count: int
    is_shallow: bool = False

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a run that name the commit."""
        return {"fedbench.commit": self.name, "fedbench.commits": str(self.count)} | self.mlflow_tags

    @property
    def mlflow_tags(self) -> dict[str, str]:
        """MLflow's own tags of a commit, as far as they are known; none outside a repository."""
        if self.name == "none":
            return {}
        code, _, state = self.name.partition("-")
        dirty = {} if state == "unknown" else {"mlflow.source.git.dirty": str(state == "dirty").lower()}
        return {"mlflow.source.git.commit": code} | dirty


def short_commit(name: str) -> str:
    """The short form of a commit's name: ``c0ffee1`` or ``c0ffee1-dirty``."""
    code, dash, state = name.partition("-")
    return f"{code[:SHORT]}{dash}{state}"


def commit_of(*folders: Path | None) -> Commit:
    """The commit of the repository that contains the first of these folders that is in one.

    That of None, an installed wheel, is not known.
    """
    for folder in filter(None, folders):
        if commit := git_answer("rev-parse", "HEAD", folder=folder):
            changes = git_answer("status", "--porcelain", "--untracked-files=no", folder=folder)
            state = "-unknown" if changes is None else "-dirty" if changes else ""
            count = git_answer("rev-list", "--count", "HEAD", folder=folder)
            shallow = git_answer("rev-parse", "--is-shallow-repository", folder=folder) == "true"
            return Commit(f"{commit}{state}", int(count or 0), shallow)
    return Commit("none", 0)


def git_answer(*arguments: str, folder: Path | None = None) -> str | None:
    """What git answers in `folder`, or the working directory.

    None without git, outside a repository, and if it fails or does not answer within `SECONDS`.
    """
    try:
        done = run_git(*arguments, folder=folder, seconds=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.decode(errors="replace").strip()  # names have any encoding


def run_git(
    *arguments: str,
    folder: Path | None,
    seconds: float,
    variables: Mapping[str, str] | None = None,
    given: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Run git on the repository of `folder`; `given` is what it reads."""
    return subprocess.run(  # noqa: S603 - a revision is no option after --end-of-options
        ["git", *arguments],  # noqa: S607 - git is found on the PATH
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in PLACES} | dict(variables or {}),
        input=given,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
