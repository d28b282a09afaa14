"""Locks between the commands of one machine, or of several that share a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from fedbench.util.errors import StoreError
from fedbench.util.once import warn_once

POLL_SECONDS = 0.2  # while a lock is waited for
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # a file system without locks: nobody waits


class Lock:
    """A lock that this process holds, until it ends, however it ends; see `lock` and `try_lock`.

    As a context manager it is removed at the end. The file can hold a line of text for the next holder. Without a path
    it is no lock, and has no text.
    """

    def __init__(self, path: Path | None, held: FileLock | None = None) -> None:
        self.path = path
        self._held = held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def text(self) -> str:
        """What the file says; empty if it is new."""
        return self.path.read_text(encoding="utf-8") if self.path and self.path.exists() else ""

    @text.setter
    def text(self, text: str) -> None:
        if self.path:
            self.path.write_text(text, encoding="utf-8")

    def release(self) -> None:
        """Let another process take it; the file stays."""
        if self._held is not None:
            self._held.release()

    def remove(self) -> None:
        """Remove the file and let it go. Whoever waits for the removed file tries again with a new one."""
        if self.path:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self.release()


def try_lock(path: Path) -> Lock | None:
    """Take the lock at `path`; None if another process holds it.

    Raises `StoreError` if its file cannot be written.
    """
    return _lock(path, timeout=0)


def lock(path: Path) -> Lock:
    """Take the lock at `path`, however long another process holds it; errors as in `try_lock`."""
    taken = _lock(path, timeout=-1)
    assert taken is not None  # noqa: S101 - there is no timeout
    return taken


def is_locked(path: Path) -> bool | None:
    """Whether a process holds the lock at `path`, which need not be writable; None if its file system has no locks."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): let this user read it") from error
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in NO_LOCKS else True
    finally:
        os.close(file)
    return False


def put_new(new: Path, path: Path) -> None:
    """Give a whole file the name `path`, which nobody else may have taken; `new` may be left.

    Raises `FileExistsError` if there is something of that name by now.
    """
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: one that asks first, and one at a time
        with lock(path.with_name(f".{path.name}.lock")):
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            new.replace(path)


def _lock(path: Path, timeout: float) -> Lock | None:
    # Not per thread: a generator may be closed by another one.
    file_lock = FileLock(path, timeout=timeout, poll_interval=POLL_SECONDS, thread_local=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_lock.acquire()
    except Timeout:
        return None
    except OSError as error:
        if error.errno in NO_LOCKS:
            place = f"the file system of {path.parent}"
            warn_once(
                Lock,
                f"{place} has no locks: run one command at a time there; what two compute at once is computed twice",
            )
            return Lock(path)
        raise StoreError(f"{path} cannot be locked ({error.strerror or error}): let this user write there") from error
    return Lock(path, file_lock)
