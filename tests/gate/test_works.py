"""What of a suite is timed, and how its repository is unpacked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from made_repository import LAYERS, NET, commit, git, made_repository
from made_suite import made_suite

from fedbench.gate.suite_speed import WORKS, suite_trees
from fedbench.gate.trees import LARGE, Trees, unpacked
from fedbench.gate.turns import SideError, sides, time_in_turns
from fedbench.gate.works import works_of
from fedbench.runs.data import DataSource
from fedbench.suites.loading import load_suite
from fedbench.util.errors import BenchmarkError

TEXT = """
name: made
question: What is timed?
seeds: [0, 1]
defaults: {model: 2nn, num_clients: 4}
scenarios:
  - {name: grid, learning_rate: [0.1, 0.2], partition: [iid, shards], num_clients: [2, 10]}
  - {name: batches, batch_size: [10, 50, null], rounds: 3}
  - {name: proximal, algorithm: fedprox, proximal_weight: [0.1, 0.2]}
  - {name: robust, aggregation: trimmed-mean}
"""


def test_the_works_of_a_suite_are_what_differs_in_time(tmp_path: Path) -> None:
    works = works_of(made_suite(tmp_path, TEXT))
    assert [
        "train 2nn batch 50 on mnist-5k",
        "evaluate 2nn on mnist-5k",
        "average 10 of 2nn",
        "train 2nn batch 10 on mnist-5k",
        "train 2nn in one batch on mnist-5k",
        "train 2nn batch 50 on mnist-5k, algorithm=fedprox proximal_weight=0.1",
        "average 4 of 2nn, algorithm=fedprox proximal_weight=0.1",
        "train 2nn batch 50 on mnist-5k, algorithm=fedprox proximal_weight=0.2",
        "average 4 of 2nn, algorithm=fedprox proximal_weight=0.2",
        "average 4 of 2nn, aggregation=trimmed-mean",
    ] == [work.name for work in works]
    assert {"batch_size": 50, "clip_norm": None} == works[7].fields
    assert ["2nn", "fedprox", "sgd", "none"] == [part.name for part in works[7].parts]
    assert [50, 250, 10, 10, 250] == [work.number for work in works[:5]]


# The two trees


@pytest.fixture
def suite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The suite of a made repository, which is the working directory and on the search path."""
    path = made_repository(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    return path


def texts(trees: Trees, path: str) -> list[str | None]:
    return [(tree / path).read_text() if (tree / path).exists() else None for tree in (trees.before, trees.now)]


def test_code_is_each_trees_own_and_what_is_no_code_is_the_working_trees(suite_file: Path) -> None:
    root = suite_file.parents[1]
    (root / "nets/weights.pt").write_text("a pointer of LFS")
    (root / "old.py").write_text("")
    commit(root)
    (root / "nets/weights.pt").write_bytes(bytes(LARGE + 1))
    (root / "old.py").unlink()
    (root / "nets/layers.py").write_text("changed = True\n")
    (root / "nets/new.py").write_text("new = True\n")
    (root / "data/images.npz").write_text("pixels")
    (root / "scans").mkdir()
    (root / "scans/one.txt").write_text("scan")
    (root / "scans/load.py").write_text("load = True\n")
    (root / "nets/link.py").symlink_to("layers.py")
    with unpacked("HEAD", suite_file.parent, data=[root / "scans"]) as trees:
        assert [LAYERS, "changed = True\n"] == texts(trees, "nets/layers.py")
        assert [None, "new = True\n"] == texts(trees, "nets/new.py")
        assert [None, "changed = True\n"] == texts(trees, "nets/link.py")
        assert ["", None] == texts(trees, "old.py")
        assert [None, "load = True\n"] == texts(trees, "scans/load.py")
        for shared in ("data", "nets/weights.pt"):
            assert [root / shared] * 2 == [(tree / shared).resolve() for tree in (trees.before, trees.now)]
        assert (Path("nets/new.py"), None) == (trees.inside(root / "nets/new.py"), trees.inside(root / "data"))
        assert (Path(), Path()) == (trees.working, trees.search[0])
        assert trees.home.is_absolute()
    assert not trees.folder.exists()
    assert "pixels" == (root / "data/images.npz").read_text()
    assert not [line for line in git(root, "status", "--porcelain").splitlines() if "D " in line and "old" not in line]


def names(suite_file: Path) -> list[str]:
    with suite_trees(load_suite(suite_file), DataSource(), "HEAD") as trees:
        return [work["name"] for work in json.loads((trees.folder / WORKS).read_text())["works"]]


def test_works_without_code_of_the_repository_are_left_out(suite_file: Path) -> None:
    assert [
        "train ../nets/my_net.py:Net width=8 batch 50 on mnist-5k",
        "evaluate ../nets/my_net.py:Net width=8 on mnist-5k",
        "average 2 of ../nets/my_net.py:Net width=8",
        "train ../nets/my_net.py:Net batch 50 on mnist-5k",
        "evaluate ../nets/my_net.py:Net on mnist-5k",
        "average 2 of ../nets/my_net.py:Net",
    ] == names(suite_file)
    plain = suite_file.with_name("plain.yaml")
    plain.write_text("name: p\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a}]\n")
    with pytest.raises(
        BenchmarkError, match=r"^.*plain\.yaml: no part that is timed comes from the repository .*mine, "
    ):
        names(plain)


def test_what_a_revision_lacks_is_told_in_one_line_without_a_temporary_path(suite_file: Path) -> None:
    root = suite_file.parents[1]
    (root / "nets/my_net.py").write_text(NET.replace("width: int", "depth: int = 2, width: int"))
    (root / "nets/new.py").write_text(NET)
    suite_file.write_text(
        "name: digits\nquestion: Why?\nseeds: [0]\nscenarios:\n"
        "  - {name: deep, model: ../nets/my_net.py:Net, depth: [2, 3]}\n"
        "  - {name: new, model: ../nets/new.py:Net}\n"
    )
    with suite_trees(load_suite(suite_file), DataSource(), "HEAD") as trees, sides(trees, 0) as (before, now):
        for work, reason in (("new.py:Net", r"^there is no file nets/new\.py$"), ("my_net.py:Net depth=3", "depth")):
            with pytest.raises(SideError, match=reason) as missing:
                time_in_turns(before, now, f"evaluate ../nets/{work} on mnist-5k", 0.01, 1e18)
            assert (before, True) == (missing.value.side, missing.value.others_can_run)
        assert time_in_turns(before, now, "evaluate ../nets/my_net.py:Net on mnist-5k", 0.01, 1e18)


@pytest.mark.slow
def test_a_module_that_only_the_working_tree_has_is_not_taken_for_the_revisions(
    suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = suite_file.parents[1]
    (root / "lib").mkdir()
    (root / "lib/helper.py").write_text("from nets.layers import flat\n")
    (root / "nets/my_net.py").write_text(NET.replace("nets.layers", "helper"))
    git(root, "add", "nets")
    git(root, "commit", "-m", "forgets the helper")
    monkeypatch.syspath_prepend(str(root / "lib"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "lib"), *sys.path]))
    suite = load_suite(suite_file, only=["own"])
    with suite_trees(suite, DataSource(), "HEAD") as trees, sides(trees, 0) as (before, now):
        with pytest.raises(SideError, match=r"helper is imported from .*lib, which is not the revision's") as found:
            time_in_turns(before, now, "evaluate ../nets/my_net.py:Net on mnist-5k", 0.01, 1e18)
        assert before is found.value.side
