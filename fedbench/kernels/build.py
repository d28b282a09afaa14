"""Compiles kernels.c with the clang of the package `ziglang`. Run by the build of the wheel, so it imports nothing else.

``python fedbench/kernels/build.py TARGET`` with TARGET one of `TARGETS`; without it, the machine's own.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
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
    """What a library says of the source that it was compiled from."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]


def library_file(variant: str) -> Path:
    """Where a variant's library is."""
    return FOLDER / f"{variant}.so"


def build(target: str) -> list[Path]:
    """Compile all variants for a target, next to the source; a file appears when it is whole."""
    files = []
    for variant, (triple, processor) in TARGETS[target].items():
        file = library_file(variant)
        part = file.with_suffix(f".{os.getpid()}.part")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", triple, f"-mcpu={processor}"]
        command = [*compiler, *FLAGS, f"-DSOURCE_DIGEST={source_digest()}", "-o", str(part), str(SOURCE)]
        try:
            subprocess.run(command, check=True)  # noqa: S603 - our own command
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        files.append(file)
    return files


if __name__ == "__main__":
    for built in build(*sys.argv[1:] or [own_target()]):
        print(built)
