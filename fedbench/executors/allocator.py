"""The C library's allocator, set to keep the memory that tensors free."""

from __future__ import annotations

import ctypes

# Parameters of mallopt(3) and their values in bytes. By default, glibc returns each large block to the system when it
# is freed, and a training step then spends two fifths of its time on page faults.
SETTINGS = (
    (-3, 32 << 20),  # M_MMAP_THRESHOLD: the largest value that every glibc takes
    (-3, 1 << 30),  # the same, where it may be larger; elsewhere this one is refused
    (-1, 1 << 30),  # M_TRIM_THRESHOLD
    (-2, 16 << 20),  # M_TOP_PAD
)


def keep_freed_memory() -> None:
    """Keep freed memory in this process for the next tensor. Does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in SETTINGS:
            mallopt(parameter, value)
