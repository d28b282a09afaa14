"""Compiles kernels.c with the clang of the package `ziglang`. The wheel's build runs it, so it imports nothing else.

``python fedbench/kernels/build.py TARGET`` with TARGET one of `TARGETS`; without it, the machine's own.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "kernels.c"

# By target: the variants of the library, each with the compiler's target and processor. Clang would use vectors of 256
# bits for x86-64-v4 otherwise.
TARGETS = {
    "linux-x86_64": {
        "x86-64-v3": ("x86_64-linux-gnu.2.17", "x86_64_v3"),
        "x86-64-v4": ("x86_64-linux-gnu.2.17", "x86_64_v4-prefer_256_bit"),
    },
    "linux-aarch64": {"aarch64": ("aarch64-linux-gnu.2.17", "generic")},
    "macos-arm64": {"aarch64": ("aarch64-macos.11.0", "apple_m1")},
}
FLAGS = [
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-fPIC",
    "-shared",
    "-s",
    "-Wall",
    "-Wextra",
]


def own_target() -> str:
    """The target of this machine, which may not be among `TARGETS`."""
    system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    return f"{system}-{platform.machine().lower()}"


def source_digest() -> str:
    """What a library contains of the source and the settings that it was compiled from."""
    return hashlib.sha256(SOURCE.read_bytes() + repr((TARGETS, FLAGS)).encode()).hexdigest()[:16]


def library_file(variant: str) -> Path:
    """Where a variant's library is."""
    return FOLDER / f"{variant}.so"


def is_fresh(file: Path) -> bool:
    """Whether a file is a whole library of this source: the digest is in the last of what is loaded from it."""
    try:
        return source_digest().encode() in file.read_bytes()
    except OSError:
        return False


def build(target: str, folder: Path = FOLDER, only: str = "") -> list[Path]:
    """Compile the variants for a target, or only one, into a folder; a file appears when it is whole.

    Raises
    ------
    OSError
        If the folder cannot be written.
    RuntimeError
        If it does not compile; the text says why.
    """
    variants = {only: TARGETS[target][only]} if only else TARGETS[target]
    return [_compile(folder / library_file(name).name, *settings) for name, settings in variants.items()]


def _compile(file: Path, triple: str, processor: str) -> Path:
    part = file.with_suffix(f".{os.getpid()}.so")
    command = [sys.executable, "-P", "-m", "ziglang", "cc", "-target", triple, f"-mcpu={processor}", *FLAGS]
    command += [f"-DSOURCE_DIGEST={source_digest()}", "-o", str(part), str(SOURCE)]
    try:
        part.touch()  # says why the folder cannot be written
        with tempfile.TemporaryDirectory() as cache:  # there may be no home folder
            environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
            raise RuntimeError(next((line for line in lines if "error" in line), lines[-1]))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


if __name__ == "__main__":
    build(sys.argv[1] if sys.argv[1:] else own_target())
