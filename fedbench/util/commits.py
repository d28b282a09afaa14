"""The commit that a measurement is of, as it is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedbench.util.environment import git_answer

SHORT = 7  # characters of a hash that are shown


@dataclass(frozen=True)
class Commit:
    """The commit of the code that is measured.

    Attributes
    ----------
    name
        The hash, with ``-dirty`` if tracked files differ from it; ``none`` where there is no repository.
    count
        How many commits lead to it, itself counted; 0 where there is no repository.
    is_shallow
        Whether the repository lacks history, so that `count` is too small.
    """

    name: str
    count: int
    is_shallow: bool = False

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a run that say so; those of MLflow are left out where there is no repository."""
        code, _, dirty = self.name.partition("-")
        in_git = {"mlflow.source.git.commit": code, "mlflow.source.git.dirty": str(bool(dirty)).lower()}
        return {"fedbench.commit": self.name, "fedbench.commits": str(self.count), **(in_git if self.count else {})}


def short_commit(name: str) -> str:
    """A commit's name with fewer characters: ``c0ffee1`` or ``c0ffee1-dirty``."""
    return f"{name[:SHORT]}{'-dirty' if name.endswith('-dirty') else ''}"


def commit_of(checkout: Path | None) -> Commit:
    """The commit of the repository that a folder is in; that of None, an installed wheel, is not known."""
    commit = git_answer("rev-parse", "HEAD", folder=checkout) if checkout else ""
    if not commit:
        return Commit("none", 0)
    dirty = bool(git_answer("status", "--porcelain", "--untracked-files=no", folder=checkout))
    count = git_answer("rev-list", "--count", "HEAD", folder=checkout)
    shallow = git_answer("rev-parse", "--is-shallow-repository", folder=checkout) == "true"
    return Commit(f"{commit}-dirty" if dirty else commit, int(count or 0), shallow)
