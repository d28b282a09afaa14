"""Files that are either whole or absent: atomic writes, checksums, a lock, and errors in one line."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from filelock import FileLock, Timeout

from fedbench.util.errors import DataError

CHUNK = 1 << 20
SQLITE = "sqlite:///"
HOME = re.compile(rf"((?:--[\w-]+=)?)({SQLITE})?(~(?:/.*)?)", re.DOTALL)
LEFT = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")  # what a killed process left of `replacing`


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

    The content goes to a temporary file in the same folder, which replaces `path` at the end and is removed after an
    error. With `sync`, the bytes are on the disk before the name is. A folder, pipe or device is not replaced.
    """
    if path.exists():
        regular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
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


def regular(path: Path, limit: int | None = None) -> Path:
    """The path of a file, if that can be read to its end: a regular one of at most `limit` bytes.

    Raises `OSError` if it is another, such as a folder, a pipe or a device.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device; name a regular file", str(path))
    if limit is not None and found.st_size > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes", str(path))
    return path


def with_home(text: str) -> str:
    """A path, an address such as ``sqlite:///~/mlflow.db``, or an option with one, with the home folder for its "~".

    Raises `DataError` if the home folder is not known.
    """
    if (found := HOME.fullmatch(text)) is None:
        return text
    try:
        path = Path(unquote(found[3]) if found[2] else found[3]).expanduser()
    except RuntimeError:
        raise DataError(f"{text}: the home folder is not known: set HOME, or give the whole path") from None
    return f"{found[1]}{sqlite_address(path) if found[2] else path}"


def sqlite_address(path: Path) -> str:
    """The address of a SQLite file, with what means something else in an address escaped.

    Raises `DataError` if the path is not UTF-8, which no address can express.
    """
    try:
        return SQLITE + quote(str(path), safe="/ ~")
    except UnicodeEncodeError:
        raise DataError(f"{str(path)!a}: a store's path must be UTF-8: choose another folder") from None


def shown(path: Path) -> str:
    """A path as messages name it: from the working directory if it is there."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def require_writable(path: Path) -> None:
    """Raise `DataError` before long work if `replacing` could not create `path`, as far as can be known."""
    there = next((each for each in path.absolute().parents if each.exists()), path)
    is_other = path.exists() and not path.is_file()  # a folder, a pipe or a device
    if is_other or not there.is_dir() or not os.access(there, os.W_OK):
        raise DataError(f"cannot write {path}: {path if is_other else there} is in the way or not writable")


def remove(path: Path) -> None:
    """Remove a file of `replacing`, and what killed processes left of it, as far as possible."""
    left = (each for each in path.parent.glob(f".{escape(path.name)}.*.tmp") if LEFT.fullmatch(each.name))
    for each in (path, *left):
        with suppress(OSError):
            each.unlink()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Create `folder` and lock it: another process or thread that wants it waits, and says so.

    What killed processes left of `replacing` there, and one level below, is removed. The lock ends with the process.
    Where a folder cannot be locked, as a read-only one, nobody waits; atomic writes still keep processes from harming
    each other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    with suppress(OSError, NotImplementedError):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            sys.stderr.write(f"waiting for another process that writes to {folder}\n")
            lock.acquire()
    try:
        if lock.is_locked:  # only the holder may remove what killed processes left
            for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
                if LEFT.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal ``"md5"`` or ``"sha256"`` of a file."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
