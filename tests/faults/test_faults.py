"""Every fault fits the tree as it is, and the gate finds it; prove.py does so at full size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faulty_trees import (
    ACCURACY,
    FAULTS,
    HERE,
    PERMUTED_SUM,
    SPEED,
    Check,
    apply,
    check,
    make_baseline,
    patched_tree,
    sound_tree,
    suite_with_seeds,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_tree(tmp_path_factory.mktemp("trees") / "sound")


def test_there_are_fifteen_faults_of_accuracy_or_more_and_four_of_speed() -> None:
    assert 15 <= len(ACCURACY)
    assert 4 == len(SPEED)


@pytest.mark.parametrize("name", FAULTS)
def test_a_patch_fits_the_tree_alone_and_with_the_permuted_sum(name: str, tree: Path) -> None:
    patches = [FAULTS[name].patch, *([PERMUTED_SUM] if name in ACCURACY else [])]
    for patch in patches:
        apply(patch, tree)
    for file in re.findall(r"^\+\+\+ b/(\S+)$", patches[0].read_text(), re.MULTILINE):
        if file.endswith(".py"):
            compile((tree / file).read_text(), file, "exec")
    for patch in reversed(patches):
        apply(patch, tree, "--reverse")


def test_a_patch_that_does_not_fit_is_an_error(tree: Path, tmp_path: Path) -> None:
    patch = FAULTS["epochs-off-by-one"].patch
    with pytest.raises(RuntimeError, match=r"epochs-off-by-one\.patch does not fit the tree"):
        patched_tree(tree, tmp_path / "copy", patch, patch)


def test_the_script_says_what_it_does() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "prove.py"), "--help"], capture_output=True, text=True, check=False
    )
    assert "python tests/faults/prove.py" in done.stdout


@pytest.mark.slow
def test_a_fault_of_accuracy_is_found_in_its_cells_and_a_sound_tree_passes(tree: Path, tmp_path: Path) -> None:
    suite = suite_with_seeds(tmp_path, [1])  # seed 0 would hide a seed that is ignored
    make_baseline(tree, suite, tmp_path / "baselines")

    def checked(name: str) -> Check:
        copy = patched_tree(tree, tmp_path / "faulty" / (name or "none"), *([FAULTS[name].patch] if name else []))
        return check(copy, suite, tmp_path / "baselines", "--workers", "1")

    names = ["", *ACCURACY[::8]]  # each takes five seconds of a core; prove.py takes all
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = dict(zip(names, pool.map(checked, names), strict=True))
    assert {name: int(bool(name)) for name in names} == {name: done.exit_code for name, done in checks.items()}
    assert {name: set(FAULTS[name].cells) for name in names[1:]} == {
        name: set(checks[name].not_same) for name in names[1:]
    }
