"""The two trees that are timed, unpacked side by side: a revision's package, and the working tree's as it is now."""

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

from fedbench.bench.pytest_run import PACKAGE, checkout, shipped_benchmarks
from fedbench.util.errors import BenchmarkError

PLUGIN = Path(__file__).with_name("lockstep_plugin.py")
GIT_SECONDS = 60
COMPILED = shutil.ignore_patterns("__pycache__")


class _RefusedError(BenchmarkError):
    """Git was run, and will not do it."""


@dataclass(frozen=True)
class Trees:
    """Where everything is, in a temporary folder.

    Attributes
    ----------
    before, now
        Folders with a package ``fedbench`` each. Their names are equally long, so that no length differs that a
        process's memory begins with.
    benchmarks
        The working tree's benchmarks, which both are timed with.
    plugin
        A copy of `fedbench.gate.lockstep_plugin`.
    commit
        The revision's, in full.
    """

    folder: Path
    before: Path
    now: Path
    benchmarks: Path
    plugin: Path
    commit: str


@contextmanager
def unpacked(revision: str, benchmarks: Path | None = None) -> Iterator[Trees]:
    """Unpack `revision` and copy the working tree; nothing is left of either in the end.

    The repository gets no worktree, so that nothing is left in it even if the process is killed.

    Parameters
    ----------
    revision
        Anything that git can resolve to a commit.
    benchmarks
        Where the benchmarks are, if not in `shipped_benchmarks`.

    Raises
    ------
    BenchmarkError
        If fedbench is not run from a checkout, git is missing or refuses, there is no such revision, or it has no
        package.
    """
    root = checkout()
    if root is None:
        raise BenchmarkError(
            "this fedbench is not a checkout, which --against needs: clone the repository and run it there"
        )
    commit = resolve(revision, root)
    with tempfile.TemporaryDirectory(prefix="fedbench-speed-") as temporary:
        folder = Path(temporary)
        trees = Trees(folder, folder / "old", folder / "new", folder / "benchmarks", folder / PLUGIN.name, commit)
        _unpack(revision, commit, root, trees.before)
        try:
            shutil.copytree(PACKAGE, trees.now / PACKAGE.name, ignore=COMPILED)
            shutil.copytree(benchmarks or shipped_benchmarks(), trees.benchmarks, ignore=COMPILED)
            shutil.copy(PLUGIN, trees.plugin)
            (trees.benchmarks / "pytest.ini").write_text("[pytest]\n")  # theirs loads pytest-benchmark
        except (OSError, shutil.Error) as error:
            raise BenchmarkError(f"cannot copy {root} to {folder}: {' '.join(str(error).split())[:300]}") from error
        yield trees


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


def _unpack(revision: str, commit: str, root: Path, target: Path) -> None:
    try:
        archive = _git(root, "archive", "--format=tar", commit, "--", PACKAGE.name)
    except _RefusedError as error:
        raise BenchmarkError(
            f"--against {revision}: it has no package {PACKAGE.name}: choose another ({error})"
        ) from None
    target.mkdir()
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as file:
            file.extractall(target, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise BenchmarkError(f"--against {revision}: cannot unpack it: {' '.join(str(error).split())[:300]}") from error


def _git(root: Path, *arguments: str) -> bytes:
    """What git answers in `root`; a `_RefusedError` of what it says if it refuses."""
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
