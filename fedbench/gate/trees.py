"""The two trees that are timed, unpacked next to each other: a revision's package, and the working tree's as it is."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedbench.bench.run import PACKAGE, WORKLOADS, checkout
from fedbench.util.errors import BenchmarkError

WORKER = Path(__file__).with_name("turns_worker.py")
GIT_SECONDS = 60


class _RefusedError(BenchmarkError):
    """Git ran, and refused."""


@dataclass(frozen=True)
class Trees:
    """Where everything is, in a temporary folder.

    Attributes
    ----------
    before, now
        Folders with a package each. Their names have the same length, as what a process's memory begins with.
    workloads, worker
        Copies of the working tree's workloads, and of `fedbench.gate.turns_worker`.
    commit
        The revision's full hash.
    """

    folder: Path
    before: Path
    now: Path
    workloads: Path
    worker: Path
    commit: str


@contextmanager
def unpacked(revision: str, package: Path = PACKAGE, workloads: Path = WORKLOADS) -> Iterator[Trees]:
    """Unpack `revision` and copy the working tree; both are removed at the end.

    The repository gets no worktree, so that nothing is left in it even if the process is killed.

    Parameters
    ----------
    revision
        Anything that git resolves to a commit.
    package
        The working tree's package, a folder at the root of its repository.
    workloads
        A file of workloads; see `fedbench.bench.workloads`.

    Raises
    ------
    BenchmarkError
        If git is missing or refuses, there is no such revision, or it has no package.
    """
    root = package.parent
    commit = resolve(revision, root)
    with tempfile.TemporaryDirectory(prefix="fedbench-speed-") as temporary:
        folder = Path(temporary)
        trees = Trees(folder, folder / "old", folder / "new", folder / workloads.name, folder / WORKER.name, commit)
        _unpack(revision, commit, package, trees.before)
        try:
            shutil.copytree(package, trees.now / package.name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(workloads, trees.workloads)
            shutil.copy(WORKER, trees.worker)
        except (OSError, shutil.Error) as error:
            raise BenchmarkError(f"cannot copy {root} to {folder}: {' '.join(str(error).split())[:300]}") from error
        yield trees


def require_checkout() -> None:
    """Refuse to compare a fedbench that was installed from a wheel.

    Raises
    ------
    BenchmarkError
        One line that says what to do.
    """
    if checkout() is None:
        raise BenchmarkError("--against needs fedbench in a checkout: clone the repository and run it there")


def resolve(revision: str, root: Path) -> str:
    """The full hash of a revision's commit in the repository at `root`.

    Raises
    ------
    BenchmarkError
        If there is none, git is missing, or `root` is in no repository.
    """
    try:
        _git(root, "rev-parse", "--git-dir")
    except _RefusedError as error:
        raise BenchmarkError(f"--against needs the code in a git repository: {error}") from None
    try:
        return _git(root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    except _RefusedError:
        raise BenchmarkError(f"--against {revision}: no such revision: see git log, or git fetch it") from None


def _unpack(revision: str, commit: str, package: Path, target: Path) -> None:
    try:
        archive = _git(package.parent, "archive", "--format=tar", commit, "--", package.name)
    except _RefusedError as error:
        raise BenchmarkError(
            f"--against {revision}: it has no package {package.name}: choose another ({error})"
        ) from None
    target.mkdir()
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as file:
            file.extractall(target, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise BenchmarkError(f"--against {revision}: cannot unpack it: {' '.join(str(error).split())[:300]}") from error


def _git(root: Path, *arguments: str) -> bytes:
    """What git answers in `root`; a `_RefusedError` with its message if it refuses."""
    try:
        done = subprocess.run(  # noqa: S603 - a revision is no option after --end-of-options
            ["git", *arguments],  # noqa: S607 - git is found on the PATH
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"--against needs git, which cannot be run: {' '.join(str(error).split())}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise _RefusedError(f"git {arguments[0]} in {root}: {lines[0]}")
    return done.stdout
