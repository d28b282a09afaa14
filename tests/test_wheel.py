"""The built wheel, in an empty folder: it carries the suites and runs one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    out = str(folder / "dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("fedbench_mlflow-*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return target


def fedbench(installed: Path, folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fedbench", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_carries_every_suite(installed: Path, tmp_path: Path) -> None:
    expected = {path.stem for path in (CHECKOUT / "suites").glob("*.yaml")}
    listed = json.loads(fedbench(installed, tmp_path, "suites", "--json"))["suites"]
    assert expected == {suite["suite"] for suite in listed}
    assert all(Path(suite["path"]).is_relative_to(installed) for suite in listed)
    assert (installed / "fedbench/_suites/schema.json").read_text() == (CHECKOUT / "suites/schema.json").read_text()


@pytest.mark.slow
def test_the_wheel_runs_a_suite_in_an_empty_folder_and_writes_only_its_store(installed: Path, tmp_path: Path) -> None:
    little = ("--only", "two-models", "--seeds", "0", "--set", "local_epochs=1", "--set", "examples_per_client=50")
    results = json.loads(fedbench(installed, tmp_path, "run", "quickstart", *little, "--json"))
    assert (2, 0, 0) == (results["executed"], results["skipped"], results["failed"])
    assert ["mlruns"] == [path.name for path in tmp_path.iterdir()]


def files(folder: Path) -> set[Path]:
    """All files but what Python compiles."""
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_the_wheel_carries_the_benchmarks_and_times_them(installed: Path, tmp_path: Path) -> None:
    before = files(installed / "fedbench" / "bench")
    report = json.loads(fedbench(installed, tmp_path, "bench", "--select", "training_step", "--json", "--no-log"))
    assert ["training_step"] == [each["name"] for each in report["benchmarks"]]
    assert [] == list(tmp_path.iterdir())
    assert before == files(installed / "fedbench" / "bench")
