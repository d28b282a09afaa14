"""The build of the wheel where the kernels cannot be compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "NOTICE.md")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The sources of the wheel, whose kernels.c is broken."""
    source = tmp_path / "source"
    for folder in ("fedbench", "suites"):
        shutil.copytree(CHECKOUT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(CHECKOUT / file, source)
    with (source / "fedbench/kernels/kernels.c").open("a") as file:
        file.write("#error broken\n")
    return source


def build(source: Path, target: str) -> tuple[int, str]:
    """The exit code, and what it said."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    environment = os.environ | {"FEDBENCH_BUILD_TARGET": target}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.nightly
def test_a_wheel_whose_kernels_do_not_compile_is_pure_and_says_so(source: Path) -> None:
    code, said = build(source, "")
    assert (0, True) == (code, "the wheel has no kernels: " in said)
    (wheel,) = (source / "dist").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "reason"),
    [("linux-aarch64", "error: broken"), ("sparc", "FEDBENCH_BUILD_TARGET is 'sparc': it can be linux-x86_64, ")],
)
@pytest.mark.slow
@pytest.mark.nightly
def test_a_wheel_for_a_named_target_has_kernels_or_fails(target: str, reason: str, source: Path) -> None:
    code, said = build(source, target)
    assert (1, True) == (code, reason in said)
    assert not (source / "dist").exists() or not list((source / "dist").iterdir())
