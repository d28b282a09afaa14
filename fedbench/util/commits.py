"""The git commit that is measured, as it is recorded."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SHORT = 7  # characters of a hash that are shown


@dataclass(frozen=True)
class Commit:
    """The commit of the code that is measured.

    Attributes
    ----------
    name
        The hash, with ``-dirty`` if tracked files differ from it; ``none`` outside a repository.
    count
        How many commits lead to it, itself included; 0 outside a repository.
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
        """MLflow's own tags of a commit; none outside a repository."""
        code, _, dirty = self.name.partition("-")
        if not self.count:
            return {}
        return {"mlflow.source.git.commit": code, "mlflow.source.git.dirty": str(bool(dirty)).lower()}


def short_commit(name: str) -> str:
    """The short form of a commit's name: ``c0ffee1`` or ``c0ffee1-dirty``."""
    return f"{name[:SHORT]}{'-dirty' if name.endswith('-dirty') else ''}"


def commit_of(*folders: Path | None) -> Commit:
    """The commit of the repository that contains the first of these folders that is in one.

    That of None, an installed wheel, is not known.
    """
    for folder in filter(None, folders):
        if commit := git_answer("rev-parse", "HEAD", folder=folder):
            dirty = bool(git_answer("status", "--porcelain", "--untracked-files=no", folder=folder))
            count = git_answer("rev-list", "--count", "HEAD", folder=folder)
            shallow = git_answer("rev-parse", "--is-shallow-repository", folder=folder) == "true"
            return Commit(f"{commit}-dirty" if dirty else commit, int(count or 0), shallow)
    return Commit("none", 0)


def git_answer(*arguments: str, folder: Path | None = None) -> str:
    """What git answers in `folder`, or the working directory; empty without git or outside a repository."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", *arguments],  # noqa: S607 - git is found on the PATH
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
