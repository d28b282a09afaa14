"""The built wheel, in an empty folder: it carries suites and kernels and runs a suite, and a tutorial works with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedbench.kernels.build import TARGETS, own_target

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


@pytest.mark.slow
@pytest.mark.skipif(own_target() not in TARGETS, reason=f"there are no kernels for {own_target()}")
def test_the_wheel_is_of_its_platform_and_computes_with_its_kernels(installed: Path, tmp_path: Path) -> None:
    (wheel,) = (installed.parent / "dist").iterdir()
    assert wheel.name.endswith(f"_{own_target().partition('-')[2]}.whl")
    libraries = [path.stem for path in (installed / "fedbench/kernels").glob("*.so")]
    assert sorted(TARGETS[own_target()]) == sorted(libraries)
    report = json.loads(fedbench(installed, tmp_path, "doctor", "--json"))
    (found,) = (each for each in report["findings"] if each["check"] == "kernels")
    assert ("ok", True) == (found["status"], found["text"].partition(":")[0] in libraries)


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


# A tutorial. Its blocks are taken in order: code that begins with a file's name is saved, commands are run.

TUTORIAL = CHECKOUT / "docs/tutorials/your-own-model.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SET_UP = ("python3 -m venv", ". .venv/", "pip install")  # done by `installed`


def command_lines(block: str) -> list[tuple[str, int]]:
    """The commands of a block, with the exit codes that the page promises."""
    lines = [line.partition("    # exit code ") for line in block.splitlines()]
    return [(line, int(code or 0)) for line, _, code in lines if not line.startswith(SET_UP)]


@pytest.mark.slow
@pytest.mark.nightly
def test_the_tutorial_on_ones_own_model_works_with_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    who = {f"GIT_{who}_{what}": "me@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    hidden = ("MLFLOW_TRACKING_URI", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= who | {"PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}

    def output(line: str, code: int) -> str:
        done = subprocess.run(
            ["/bin/bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert code == done.returncode, f"{line}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    before = {path: path.read_bytes() for path in (installed / "fedbench").rglob("*.py")}
    said = []
    for language, block in BLOCK.findall(TUTORIAL.read_text()):
        name = block.splitlines()[0].removeprefix("# ")
        if language == "yaml" and name == "my_net.yaml":
            assert (tmp_path / name).read_text() == block.removeprefix(f"# {name}\n")  # as `fedbench new` wrote it
        elif language == "python":
            (tmp_path / name).write_text(block)
        elif language == "sh":
            said += [(line, output(line, code)) for line, code in command_lines(block)]
    runs = [out for line, out in said if line == "fedbench run my_net.yaml"]
    assert ["9 runs executed.", "6 runs executed, 3 were already finished."] == [  # the file has changed
        re.findall(r"\d+ runs executed.*?\.", out)[0] for out in runs
    ]
    passed, failed = (out for line, out in said if line == "fedbench check my_net.yaml")
    assert (True, True) == ("passed" in passed, "failed: mine width=16: worse: " in failed)
    assert (tmp_path / "mlruns/reports/my_net/report.html").exists()
    assert before == {path: path.read_bytes() for path in before}
