"""What a user would miss at once: suites that load, quick listings, modules that import."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fedbench
from fedbench.suites.files import list_suites
from fedbench.suites.loading import load_suite

PACKAGE = Path(fedbench.__file__).parent


@pytest.mark.parametrize("name", list_suites())
def test_every_shipped_suite_loads_and_none_of_its_cells_is_beyond_its_data(name: str) -> None:
    suite = load_suite(name)
    assert name == suite.name
    assert [] == [cell.label for cell in suite.cells if cell.spec.shortfall()]


def test_listing_suites_and_datasets_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from fedbench.cli.app import app\n"
        "for command in (['suites'], ['data', 'list'], ['--help'], ['run', '--help']):\n"
        "    app(command, standalone_mode=False)\n"
        "print(sorted({'torch', 'mlflow'} & set(sys.modules)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "[]" == done.stdout.splitlines()[-1]


def test_every_module_imports_and_says_what_it_is_for() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__main__.py":
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = import_module(".".join(part for part in parts if part != "__init__"))
            assert module.__doc__, path
