"""The command `fedbench` as a process; `command.fedbench_here` is for what does not need one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from command import HIDDEN, Done

PACKAGE = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "fedbench")
TINY = """
name: tiny
question: Does the command work?
seeds: [0, 1]
defaults: {examples_per_client: 20, rounds: 2, local_epochs: 1}
scenarios:
  - {name: pair}
  - {name: large, examples_per_client: 9000}
"""


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return kept | {"PYTHONPATH": str(PACKAGE), "COLUMNS": "100"} | changes


def fedbench(*arguments: str, folder: Path, **changes: str) -> Done:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return Done(done.returncode, done.stdout, done.stderr)


def complaint(done: Done) -> str:
    """The one line of an error."""
    assert (2, "") == (done.code, done.out)
    assert re.fullmatch(r"fedbench: error: [^\n]+\n", done.err), done.err
    return done.err.strip().removeprefix("fedbench: error: ")


def notices(done: Done) -> list[str]:
    """The lines on standard error without progress, which a slow machine shows."""
    return [line for line in done.err.splitlines() if not re.fullmatch(r"[^:]+: (\d+/\d+ \w+|\().*", line)]
