"""One process at a time holds a lock, whatever becomes of it, and no files are left."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedbench.util.locks import NO_LOCKS, is_locked, lock, put_new, try_lock

HOLDER = """
import sys
from pathlib import Path
from fedbench.util.locks import lock
held = lock(Path(sys.argv[1]))
held.text = "of the holder"
print("held", flush=True)
input()
"""


def test_a_lock_ends_with_its_process_and_its_text_stays(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run.lock"
    arguments = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "held\n" == process.stdout.readline()
        assert is_locked(path)
        assert try_lock(path) is None
        process.kill()
    assert not is_locked(path)
    held = try_lock(path)
    assert held is not None
    assert "of the holder" == held.text
    assert is_locked(path)
    held.remove()
    assert [] == list(path.parent.iterdir())
    assert not is_locked(path)


def count_alone(path: Path, counter: Path, times: int) -> None:
    """Add one to a number in a file so often, each time under the lock."""
    for _ in range(times):
        held = lock(path)
        counter.write_text(str(int(counter.read_text()) + 1))
        held.remove()


def test_removing_the_file_lets_no_two_processes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedbench.util.locks.POLL_SECONDS", 0.001)
    counter, context = tmp_path / "counter", multiprocessing.get_context("fork")
    counter.write_text("0")
    arguments = (tmp_path / "run.lock", counter, 50)
    processes = [context.Process(target=count_alone, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert "150" == counter.read_text()
    assert ["counter"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("number", NO_LOCKS)
def test_where_a_file_system_has_no_locks_nobody_waits_and_it_is_said_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    first, second = lock(tmp_path / "run.lock"), try_lock(tmp_path / "run.lock")
    assert second is not None
    assert is_locked(tmp_path / "run.lock") is None
    assert 1 == len(caplog.messages)
    assert f"the file system of {tmp_path} has no locks: run one command at a time there" in caplog.text
    first.release()
    second.remove()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_where_a_file_system_has_no_hard_links_one_file_gets_the_name(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fail)
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    put_new(tmp_path / "one", tmp_path / "new")
    with pytest.raises(FileExistsError):
        put_new(tmp_path / "two", tmp_path / "new")
    assert {"new": "one", "two": "two"} == {path.name: path.read_text() for path in tmp_path.iterdir()}
