"""Permissions that bind root too, whom the kernel lets write everywhere otherwise."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 0x20080522  # of the kernel's interface: two words of each set
OVERRIDES = 0b111  # the capabilities to overlook the permissions of files: to write, to read, to be any file's owner
LIBC = ctypes.CDLL(None)


@contextmanager
def only_reading(folder: Path) -> Iterator[None]:
    """Let nobody write in a folder, not even root as far as this thread is concerned."""
    inside = [folder, *folder.rglob("*")]
    before = {each: each.stat().st_mode for each in inside}
    for each in inside:
        each.chmod(before[each] & ~0o222)
    try:
        with _without_overrides():
            yield
    finally:
        for each, mode in before.items():
            each.chmod(mode)


@contextmanager
def _without_overrides() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    header, before = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    assert 0 == LIBC.capget(header, before)
    effective, *others = before
    assert 0 == LIBC.capset(header, (ctypes.c_uint32 * 6)(effective & ~(OVERRIDES << 1), *others))
    try:
        yield
    finally:
        assert 0 == LIBC.capset(header, before)
