"""The endurance scripts: their options, and one in small. `make prove` runs all; `--help` says how at full size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_the_lines_of_make_prove_parse() -> None:
    """Each option that the Makefile gives to a script is one that the script has."""
    lines = re.findall(r"^\t\S+/(?:python )?(\S+\.py) (.*)$", (HERE.parents[1] / "Makefile").read_text(), re.MULTILINE)
    assert lines
    for script, options in lines:
        source = next(HERE.parent.rglob(Path(script).name)).read_text()
        assert [] == [word for word in options.split() if word.startswith("--") and f'"{word}"' not in source], script


@pytest.mark.slow
@pytest.mark.nightly
def test_nothing_is_lost_doubled_or_different_when_the_command_is_killed(tmp_path: Path) -> None:
    small = ("--only", "more-data", "--seeds", "0-1", "--set", "examples_per_client=25", "--workers", "1")
    out = run("kill_quickstart.py", "--kills", "1", "--folder", str(tmp_path / "kills"), "--", "quickstart", *small)
    assert "\n1 kills at 0 to " in out
    assert "lost: 0\ndoubled: 0\ndifferent: 0\nleft running: 0\ncheckpoint left: 0\ncell is not right: 0\n" in out
