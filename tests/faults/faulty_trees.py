"""Copies of the tree with a fault each, and the check that runs in them.

A fault is a patch in ``patches/``. Its first line says what is wrong, the second what it ``Changes`` (the cells of
faults.yaml in which a number becomes another) or what it ``Slows`` (a group of benchmarks, or nothing that is found).
"""

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
SUITE = HERE / "faults.yaml"
PARTS = HERE / "parts.py"  # a model and a partition of the suite
PERMUTED_SUM = HERE / "permuted_sum.patch"  # sums the clients' models from the last to the first


@dataclass(frozen=True)
class Fault:
    """A fault: its patch, what is wrong, the cells in which it changes a number, and the benchmarks that it slows."""

    patch: Path
    what: str
    cells: tuple[str, ...]
    slows: str

    @classmethod
    def read(cls, patch: Path) -> Fault:
        """Read the head of a patch."""
        what, effect = patch.read_text().splitlines()[:2]
        kind, _, values = effect.partition(": ")
        if kind not in ("Changes", "Slows"):
            raise ValueError(f"{patch.name}: the second line must begin with Changes or Slows")
        return cls(patch, what, tuple(values.split("; ")) if kind == "Changes" else (), values * (kind == "Slows"))


FAULTS = {patch.stem: Fault.read(patch) for patch in sorted((HERE / "patches").glob("*.patch"))}
ACCURACY = [name for name, fault in FAULTS.items() if fault.cells]
SPEED = [name for name, fault in FAULTS.items() if fault.slows]


def sound_tree(folder: Path) -> Path:
    """Copy the package and the suites into a new folder, as a checkout."""
    for part in ("fedbench", "suites"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def patched_tree(tree: Path, folder: Path, *patches: Path) -> Path:
    """Copy a tree into a new folder and apply patches to the copy; `RuntimeError` if one does not fit."""
    shutil.copytree(tree, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in patches:
        apply(patch, folder)
    return folder


def apply(patch: Path, tree: Path, *options: str) -> None:
    """Apply a patch, of whose context one line must be as it was; `RuntimeError` if it does not fit."""
    done = subprocess.run(
        ["git", "apply", "-p1", "-C1", *options, str(patch)],  # noqa: S607 - found on the PATH
        cwd=tree,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tree.parent)},  # in no repository around it
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{patch.name} does not fit the tree: {done.stderr.strip()}")


def suite_with_seeds(folder: Path, seeds: Sequence[int]) -> Path:
    """A copy of faults.yaml with other seeds, with its parts next to it."""
    text, count = re.subn(r"^seeds:.*$", f"seeds: {list(seeds)}", SUITE.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise RuntimeError(f"{SUITE} has no line of seeds")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PARTS, folder)
    copy = folder / SUITE.name
    copy.write_text(text)
    return copy


def fedbench(
    tree: Path, *arguments: str, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command of a tree."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "fedbench", *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)} | dict(settings or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def make_baseline(tree: Path, suite: Path, baselines: Path, workers: int = 1, reserve: int = 0) -> Path:
    """Write the baseline of a suite with the code of a tree; the folder."""
    options = ("--baselines", str(baselines), "--workers", str(workers), "--reserve", str(reserve))
    done = fedbench(tree, "baseline", str(suite), *options)
    if done.returncode != 0:
        raise RuntimeError(f"no baseline: {done.stdout}{done.stderr}")
    return baselines


@dataclass(frozen=True)
class Check:
    """What ``fedbench check`` said of a tree: its exit code, its JSON, and its last line if there was no JSON."""

    exit_code: int
    accuracy: Mapping[str, Any]
    stopped: str
    seconds: float

    @property
    def cells(self) -> list[Mapping[str, Any]]:
        """The cells of its JSON."""
        return list(self.accuracy.get("cells", []))

    def judged(self, judgement: str) -> list[str]:
        """The labels of the cells with that judgement."""
        return [cell["label"] for cell in self.cells if cell["judgement"] == judgement]

    @property
    def not_same(self) -> list[str]:
        """The labels of the cells in which any number is another."""
        return [cell["label"] for cell in self.cells if cell["judgement"] != "same"]

    @property
    def caught_by(self) -> str:
        """By what a fault is caught, as text; empty if it is not."""
        if self.exit_code == 1:
            changed = next((f"changed: {cell['changed']}" for cell in self.cells if cell["changed"]), "")
            worse = "worse" if self.judged("worse") else ""
            return "; ".join(filter(None, (changed, worse))) or f"it stopped: {self.stopped}"
        return "better (with --strict)" if self.judged("better") else ""

    @property
    def clearest(self) -> Mapping[str, Any]:
        """The cell whose effect is the largest multiple of its minimum detectable effect; empty if none is known."""
        known = [cell for cell in self.cells if cell["judgement"] != "same" and cell["difference"] is not None]
        return max(known, key=lambda cell: abs(cell["difference"]) / (cell["least_effect"] or 1e-9), default={})

    @property
    def has_detectable_effect(self) -> bool:
        """Whether the effect in any cell is above the stated minimum detectable effect."""
        effects = [(cell["difference"], cell["least_effect"]) for cell in self.cells]
        return any(least is not None and abs(effect) > least for effect, least in effects)


def check(tree: Path, suite: Path, baselines: Path, *options: str, settings: Mapping[str, str] | None = None) -> Check:
    """Check a tree against a baseline."""
    begun = time.monotonic()
    arguments = ("check", str(suite), "--baselines", str(baselines), "--no-log", "--json", *options)
    done = fedbench(tree, *arguments, settings=settings)
    seconds = time.monotonic() - begun
    try:
        return Check(done.returncode, json.loads(done.stdout)["accuracy"], "", seconds)
    except (ValueError, KeyError, TypeError):
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return Check(done.returncode, {}, said, seconds)
