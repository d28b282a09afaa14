"""Files that are either whole or absent: atomic writes, checksums, a lock, and errors in one line."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fedbench.util.errors import DataError

CHUNK = 1 << 20
TEMPORARY = ".tmp"


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn an operating system's error (disk full, no permission, ...) into a `DataError` of one line."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise DataError(f"{doing}: {error.strerror or error}{where}") from error


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write `path` as a whole or not at all.

    What is written goes to a temporary file of its own name beside `path`, which takes the place of `path` at the
    end; after an error it is removed. With `sync`, the bytes are on the disk before the name is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def require_writable(path: Path) -> None:
    """Find out before long work whether `replacing` could make `path`; nothing is made yet.

    Raises
    ------
    DataError
        If it could not, as far as that can be told.
    """
    there = next((each for each in path.absolute().parents if each.exists()), path)
    if path.is_dir() or not there.is_dir() or not os.access(there, os.W_OK):
        raise DataError(f"cannot write {path}: {path if path.is_dir() else there} is in the way or not writable")


def remove(path: Path) -> None:
    """Remove a file of `replacing` and what killed processes left of it, as far as that can be done."""
    for each in (path, *path.parent.glob(f".{path.name}.*{TEMPORARY}")):
        with suppress(OSError):
            each.unlink()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it: a second process that asks for it waits, and says so.

    The lock is on the folder itself, ends with the process however it ends, and leaves no file. Where a file system
    has no locks, nobody waits; the atomic writes still keep two processes from harming each other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _lock(descriptor, folder):
            _remove_left_over(folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"waiting for another process that is writing to {folder}\n")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _remove_left_over(folder: Path) -> None:
    """Remove the temporary files of processes that were killed. Only the holder of the lock may."""
    for pattern in (f".*{TEMPORARY}", f"*/.*{TEMPORARY}"):
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal ``"md5"`` or ``"sha256"`` of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
