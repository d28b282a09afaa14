"""The two trees that are timed, unpacked next to each other: a revision, and the working tree as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fedbench.bench.run import PACKAGE, WORKLOADS
from fedbench.util.commits import run_git
from fedbench.util.errors import BenchmarkError
from fedbench.util.text import one_line

WORKER = Path(__file__).with_name("turns_worker.py")
GIT_SECONDS = 120
LARGE = 1 << 20  # bytes; a larger file is no code


class _RefusedError(BenchmarkError):
    """Git ran, and refused."""


@dataclass(frozen=True)
class Trees:
    """Where everything is, in a temporary folder.

    `before` and `now` are a folder each, whose names have the same length, as what a process's memory begins with;
    `workloads` and `worker` are copies of the file of workloads, and of `fedbench.gate.turns_worker`. `root` is the
    repository's working tree, `commit` the revision's full hash.

    Both sides use the fedbench in `home`, import from the folders of `search` before all others, and work in `working`.
    All are relative to a tree, unless they are outside the repository.
    """

    folder: Path
    before: Path
    now: Path
    workloads: Path
    worker: Path
    commit: str
    root: Path
    home: Path
    search: tuple[Path, ...]
    working: Path

    def inside(self, path: Path) -> Path | None:
        """A path of the working tree relative to it; None if it is elsewhere, or no code: ignored by git, or large."""
        found = path.resolve()
        if not found.is_relative_to(self.root):
            return None
        copied = self.now / found.relative_to(self.root)
        return found.relative_to(self.root) if copied.exists() and copied.resolve() == copied else None


@contextmanager
def unpacked(
    revision: str,
    folder: Path,
    workloads: Path = WORKLOADS,
    package: Path = PACKAGE,
    more_search: Sequence[Path] = (),
    data: Sequence[Path] = (),
) -> Iterator[Trees]:
    """Unpack a revision, and copy the working tree of the repository of `folder`; both are removed at the end.

    Of the working tree that is what git tracks or would add. What git ignores, what is `LARGE`, such as weights, and
    `data` except for Python files, is no code: both trees have links to the working tree's. The repository gets no
    worktree, so that nothing is left in it even if the process is killed.

    In a repository that contains `package`, the fedbench that is used is each tree's own. Code of the repository is
    imported from `more_search` before Python's search path. Raises `BenchmarkError` if git is missing or refuses, there
    is no such revision, or it lacks the fedbench that the repository has.
    """
    root, commit = resolve(revision, folder)
    with tempfile.TemporaryDirectory(prefix="fedbench-speed-") as temporary:
        parent = Path(temporary).resolve()
        before, now = parent / "old", parent / "new"
        copies = (parent / workloads.name, parent / WORKER.name)
        is_data = partial(_is_data, root, [each.resolve() for each in data])
        _unpack(revision, commit, root, before, is_data)
        try:
            code = _copy(root, now, is_data)
            for tree in (before, now):
                _link(root, tree, code)
            for source, copy in zip((workloads, WORKER), copies, strict=True):
                shutil.copy(source, copy)
        except (OSError, shutil.Error) as error:
            raise BenchmarkError(f"cannot copy {root} to {parent}: {one_line(error)[:300]}") from error
        trees = Trees(parent, before, now, *copies, commit, root, package.parent, (), Path.cwd())
        yield _with_paths(trees, package, more_search)


def _with_paths(trees: Trees, package: Path, more_search: Sequence[Path]) -> Trees:
    """The trees with the folders that code is imported from, and where it is run."""
    own = trees.inside(package)
    if own and not (trees.before / own).is_dir():
        raise BenchmarkError(f"--against {trees.commit[:7]}: it has no package {own.as_posix()}: choose another")
    home = own.parent if own else package.parent
    found = [trees.inside(folder) for folder in (*more_search, *map(Path, sys.path))]
    search = [*([home] if own else []), *(each for each in found if each), *([] if own else [home])]
    working = trees.inside(Path.cwd()) or Path.cwd()
    return replace(trees, home=home, search=tuple(dict.fromkeys(search)), working=working)


def resolve(revision: str, folder: Path) -> tuple[Path, str]:
    """The root of the repository of `folder`, and the full hash of a revision's commit in it.

    Raises `BenchmarkError` if there is none, git is missing, or `folder` is in no repository.
    """
    try:
        root = Path(os.fsdecode(git(folder.resolve(), "rev-parse", "--show-toplevel").rstrip(b"\n"))).resolve()
    except _RefusedError as error:
        raise BenchmarkError(f"--against needs the code in a git repository: {error}") from None
    try:
        name = git(root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except _RefusedError:
        raise BenchmarkError(f"--against {revision}: no such revision: see git log, or git fetch it") from None
    return root, name.decode().strip()


def _is_data(root: Path, folders: Collection[Path], path: Path) -> bool:
    """Whether a file of the repository is no code: it is large in the working tree, or is in one of these folders."""
    file = root / path
    if file.is_file() and file.stat().st_size > LARGE:  # what LFS stores is small for git
        return True
    return path.suffix != ".py" and any(file.is_relative_to(folder) for folder in folders)


def _unpack(revision: str, commit: str, root: Path, target: Path, is_data: Callable[[Path], bool]) -> None:
    """Write the code of a commit to the folder `target`, by an index of its own. Files of LFS stay pointers."""
    variables = {"GIT_INDEX_FILE": f"{target}.index", "GIT_LFS_SKIP_SMUDGE": "1"}
    target.mkdir()
    wanted = []
    try:
        for entry in filter(None, git(root, "ls-tree", "-r", "-l", "-z", "--full-tree", commit).split(b"\0")):
            described, _, path = entry.partition(b"\t")
            size = described.split()[-1]  # "-" of a submodule
            if size.isdigit() and int(size) <= LARGE and not is_data(Path(os.fsdecode(path))):
                wanted.append(path)
        git(root, "read-tree", "--no-sparse-checkout", commit, variables=variables)
        names = b"".join(path + b"\0" for path in wanted)
        git(root, "checkout-index", "-z", "--stdin", f"--prefix={target}/", variables=variables, given=names)
    except _RefusedError as error:
        raise BenchmarkError(f"--against {revision}: cannot unpack it: {error}") from None


def _copy(root: Path, target: Path, is_data: Callable[[Path], bool]) -> set[Path]:
    """Copy the code of the working tree; what was copied, relative to it."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split(b"\0")
    code = set()
    target.mkdir()
    for path in {Path(os.fsdecode(name)) for name in listed if name}:
        source = root / path
        if source.is_symlink() or (source.is_file() and not is_data(path)):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / path, follow_symlinks=False)
            code.add(path)
    return code


def _link(root: Path, tree: Path, code: Collection[Path]) -> None:
    """Link what is no code from a tree to the working tree, whole folders at once."""
    folders = {parent for path in code for parent in path.parents}

    def link(folder: Path) -> None:
        for entry in (root / folder).iterdir():
            path = entry.relative_to(root)
            if path in folders and not entry.is_symlink():
                if (tree / path).is_dir():
                    link(path)
            elif path not in code and entry.name not in (".git", "__pycache__") and not os.path.lexists(tree / path):
                (tree / path).symlink_to(entry)

    link(Path())


def git(root: Path, *arguments: str, variables: Mapping[str, str] | None = None, given: bytes = b"") -> bytes:
    """What git answers in `root`; `given` is what it reads.

    Raises `BenchmarkError` if it cannot be run, or refuses.
    """
    try:
        done = run_git(*arguments, folder=root, seconds=GIT_SECONDS, variables=variables, given=given)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"--against needs git, which cannot be run: {one_line(error)[:300]}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise _RefusedError(f"git {arguments[0]} in {root}: {lines[0]}")
    return done.stdout
