"""What Tab offers in bash, zsh and fish, and how quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from process import TINY, environment

SCRIPT = """
import sys
from fedbench.cli.app import main
try:
    main()
finally:
    print(*sorted({"torch", "mlflow", "pandas"} & sys.modules.keys()), file=sys.stderr)
"""


def completed(folder: Path, line: str, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    variables = environment(_FEDBENCH_COMPLETE=f"complete_{shell}", **asked[shell])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert "" == done.stderr.strip()  # no heavy import, no traceback
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/tiny.yaml").write_text(TINY)
    (tmp_path / "own.yaml").write_text("name: [")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fedbench run quick", ["quickstart"]),
        ("fedbench report ti", ["tiny"]),
        ("fedbench check suites/t", ["suites/tiny.yaml"]),
        ("fedbench run ow", ["own.yaml"]),
        ("fedbench run tiny --only ", ["pair", "large"]),
        ("fedbench run own.yaml --only ", []),
        ("fedbench run nosuch --only ", []),
        ("fedbench tune quickstart --scenario m", ["more-data"]),
        ("fedbench run tiny --set learning", ["learning_rate=", "learning_rate_decay="]),
    ],
)
def test_suites_scenarios_and_fields_are_completed(folder: Path, line: str, offered: list[str]) -> None:
    assert offered == completed(folder, line)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_too(folder: Path, shell: str) -> None:
    assert any("quickstart" in word for word in completed(folder, "fedbench run quick", shell))
