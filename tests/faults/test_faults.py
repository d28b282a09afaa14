"""Every fault fits the tree as it is, and the gate catches it; prove.py does so at full size."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_table import CELLS, FAULTS
from fault_trees import HERE, PERMUTED_SUM, Check, check, make_baseline, patched_tree, sound_tree, suite_with_seeds

ACCURACY = [name for name, fault in FAULTS.items() if fault.kind == "accuracy"]
SPEED = [name for name, fault in FAULTS.items() if fault.kind == "speed"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_tree(tmp_path_factory.mktemp("trees") / "sound")


def test_there_are_fifteen_faults_of_accuracy_or_more_and_four_of_speed() -> None:
    assert 15 <= len(ACCURACY)
    assert 4 == len(SPEED)


def test_every_fault_has_its_patch_and_every_patch_its_fault() -> None:
    assert set(FAULTS) == {path.stem for path in (HERE / "patches").iterdir()}


@pytest.mark.parametrize("name", FAULTS)
def test_a_patch_fits_the_tree_and_what_it_makes_is_python(name: str, tree: Path, tmp_path: Path) -> None:
    copy = patched_tree(tree, tmp_path / "copy", FAULTS[name].patch)
    changed = [path for path in copy.rglob("*.py") if path.read_bytes() != (tree / path.relative_to(copy)).read_bytes()]
    assert changed
    for path in changed:
        compile(path.read_text(), str(path), "exec")


def test_the_permuted_sum_goes_together_with_every_fault(tree: Path, tmp_path: Path) -> None:
    for name in ACCURACY:
        patched_tree(tree, tmp_path / name, PERMUTED_SUM, FAULTS[name].patch)


def test_a_patch_that_does_not_fit_is_an_error(tree: Path, tmp_path: Path) -> None:
    patch = FAULTS["epochs-off-by-one"].patch
    with pytest.raises(RuntimeError, match=r"epochs-off-by-one\.patch does not fit the tree"):
        patched_tree(tree, tmp_path / "copy", patch, patch)


def test_the_suite_has_the_cells_of_the_table(tree: Path) -> None:
    suite = f"load_suite({str(HERE / 'faults.yaml')!r})"
    script = f"from fedbench.suites.loading import load_suite; print([cell.label for cell in {suite}.cells])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{list(CELLS)}\n" == done.stdout, done.stderr


def test_the_script_says_what_it_does() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "prove.py"), "--help"], capture_output=True, text=True, check=False
    )
    assert "python tests/faults/prove.py" in done.stdout


@pytest.mark.slow
def test_a_fault_of_accuracy_is_caught_where_the_table_says_and_a_sound_tree_passes(tree: Path, tmp_path: Path) -> None:
    suite = suite_with_seeds(HERE / "faults.yaml", tmp_path, [1])  # seed 0 is blind to a seed that is ignored
    make_baseline(tree, suite, tmp_path / "baselines", workers=1)

    def checked(name: str) -> Check:
        patches = [FAULTS[name].patch] if name else []
        copy = patched_tree(tree, tmp_path / "faulty" / (name or "none"), *patches)
        return check(copy, suite, tmp_path / "baselines", workers=1)

    names = ["", *ACCURACY[::8]]  # each takes five seconds of a core; prove.py takes all
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = dict(zip(names, pool.map(checked, names), strict=True))
    assert {name: int(bool(name)) for name in names} == {name: done.exit_code for name, done in checks.items()}
    assert {name: list(FAULTS[name].cells) for name in names[1:]} == {name: checks[name].not_same for name in names[1:]}
