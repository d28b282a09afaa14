"""Copies of the tree: the sound one, which can run faults.yaml, and those with a patch; and the command run in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PERMUTED_SUM = HERE / "permuted_sum.patch"  # the average is summed from the last client to the first
NO_CACHES = shutil.ignore_patterns("__pycache__")


def sound_tree(folder: Path) -> Path:
    """Copy the package and the suites into a new folder, and add the model and the partition that the suite needs."""
    for part in ("fedbench", "suites"):
        shutil.copytree(ROOT / part, folder / part, ignore=NO_CACHES)
    models, partitions = folder / "fedbench" / "models", folder / "fedbench" / "partitions"
    shutil.copy(HERE / "normalised_cnn.py", models)
    line = '"normalised-cnn": ModelInfo("fedbench.models.normalised_cnn:NormalisedCNN", (1, 28, 28), 10),'
    _add_line(models / "__init__.py", "MODELS", line)
    shutil.copy(HERE / "unequal.py", partitions)
    _add_line(partitions / "__init__.py", "PARTITIONS", '"unequal": "fedbench.partitions.unequal:Unequal",')
    return folder


def _add_line(path: Path, table: str, line: str) -> None:
    """Add a line to a table, after the one that opens it."""
    text, count = re.subn(rf"^{table}: dict.*= \{{$", rf"\g<0>\n    {line}", path.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise RuntimeError(f"{path} has no table {table}")
    path.write_text(text)


def patched_tree(tree: Path, folder: Path, *patches: Path) -> Path:
    """Copy a tree into a new folder and apply patches to the copy; `RuntimeError` if one does not fit."""
    for part in ("fedbench", "suites"):
        shutil.copytree(tree / part, folder / part, ignore=NO_CACHES)
    for patch in patches:
        done = subprocess.run(
            ["git", "apply", "-p1", str(patch)],  # noqa: S607 - whichever git there is
            cwd=folder,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},  # a repository around it is not meant
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{patch.name} does not fit the tree: {done.stderr.strip()}")
    return folder


def suite_with_seeds(suite: Path, folder: Path, seeds: Sequence[int]) -> Path:
    """A copy of a suite file, with other seeds."""
    text, count = re.subn(r"^seeds:.*$", f"seeds: {list(seeds)}", suite.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise RuntimeError(f"{suite} has no line of seeds")
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / suite.name
    copy.write_text(text)
    return copy


def command(
    tree: Path, arguments: Sequence[str], settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``fedbench`` as it is in a tree."""
    return subprocess.run(
        [sys.executable, "-m", "fedbench", *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)} | dict(settings or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def make_baseline(
    tree: Path, suite: Path, baselines: Path, settings: Mapping[str, str] | None = None, workers: int | None = None
) -> Path:
    """Write the baseline of a suite with the code of a tree; its file."""
    baselines.mkdir(parents=True, exist_ok=True)
    arguments = ["baseline", str(suite), "--baselines", str(baselines), *_workers(workers)]
    done = command(tree, arguments, settings)
    if done.returncode != 0:
        raise RuntimeError(f"no baseline: {done.stdout}{done.stderr}")
    (path,) = baselines.glob("*.json")
    return path


def _workers(workers: int | None) -> list[str]:
    return [] if workers is None else ["--workers", str(workers)]


@dataclass(frozen=True)
class Check:
    """What ``fedbench check`` said of a tree.

    Attributes
    ----------
    exit_code
        0 if it passed, 1 if it failed; another one is no answer.
    cells
        The cells as in its JSON: label, judgement, difference, least_effect, changed and more; fractions.
    margin
        The difference that does not matter; a fraction.
    stopped
        Its last line, if it ended without a result.
    seconds
        How long it took.
    """

    exit_code: int
    cells: tuple[Mapping[str, Any], ...]
    margin: float
    stopped: str
    seconds: float

    def judged(self, judgement: str) -> list[str]:
        """The labels of the cells of that judgement."""
        return [cell["label"] for cell in self.cells if cell["judgement"] == judgement]

    @property
    def not_same(self) -> list[str]:
        """The labels of the cells in which any number is another."""
        return [cell["label"] for cell in self.cells if cell["judgement"] != "same"]

    @property
    def changed(self) -> str:
        """Where the first bit differs, in words; empty if none does or bits were not compared."""
        return next((cell["changed"] for cell in self.cells if cell["changed"]), "")

    @property
    def clearest(self) -> Mapping[str, Any] | None:
        """The cell whose effect is the largest multiple of its least effect, of those in which it is known."""
        known = [cell for cell in self.cells if cell["judgement"] != "same" and cell["difference"] is not None]
        return max(known, key=lambda cell: abs(cell["difference"]) / (cell["least_effect"] or 1e-9), default=None)

    @property
    def is_above_least_effect(self) -> bool:
        """Whether the effect in any cell matters and is above the least effect that is stated for it."""
        return any(
            cell["least_effect"] is not None and abs(cell["difference"]) > max(cell["least_effect"], self.margin)
            for cell in self.cells
        )


def check(
    tree: Path,
    suite: Path,
    baselines: Path,
    *options: str,
    settings: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> Check:
    """Check a tree against a baseline."""
    arguments = ["check", str(suite), "--baselines", str(baselines), "--no-log", "--json", *options, *_workers(workers)]
    begun = time.monotonic()
    done = command(tree, arguments, settings)
    seconds = time.monotonic() - begun
    try:
        accuracy = json.loads(done.stdout)["accuracy"]
        return Check(done.returncode, tuple(accuracy["cells"]), accuracy["margin"], "", seconds)
    except (ValueError, KeyError, TypeError):
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return Check(done.returncode, (), 0.0, said, seconds)
