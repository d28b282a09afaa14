"""A package that offers parts through entry points: installed, its names stand in a suite next to built-in ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import fedbench_here
from entry_points import offer

from fedbench.components import KINDS, built_in_names
from fedbench.datasets.named import DATA
from fedbench.suites.catalogue import Listed, describe_part, list_parts
from fedbench.util.errors import SuiteError

PACKAGE = Path(__file__).parent / "own_package"
NAMES = {"two-squares", "softmax", "by-label", "partial-step", "rmsprop", "norm-capped", "roll"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed, as in an environment of its own."""
    target = tmp_path_factory.mktemp("environment")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(PACKAGE)], check=True, capture_output=True)
    return target


def named(parts: list[Listed], name: str) -> Listed:
    (part,) = (part for part in parts if part.name == name)
    return part


# Installed


@pytest.mark.slow
def test_a_suite_names_the_parts_of_an_installed_package(installed: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (root, installed)))}

    def fedbench(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "fedbench", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    listed = json.loads(fedbench("components", "--json"))["components"]
    assert NAMES == {part["name"] for part in listed if part["origin"] == "own-parts 1.2.3"}
    run = ("run", str(PACKAGE / "suite.yaml"), "--workers", "1", "--json")
    found, again = json.loads(fedbench(*run)), json.loads(fedbench(*run))
    assert (4, 0) == (found["executed"], found["failed"])
    assert (0, 4) == (again["executed"], again["skipped"])


# The list


def test_all_built_in_parts_are_listed_with_what_they_are() -> None:
    parts = list_parts()
    forms = [("dataset", form) for form in DATA]
    assert [*forms, *((kind, name) for kind in KINDS for name in built_in_names(kind))] == [
        (each.kind, each.name) for each in parts
    ]
    assert all(each.origin == "built in" and each.about and each.problem is None for each in parts)


def test_every_option_of_a_built_in_part_says_what_it_means() -> None:
    options = {(part.name, each.name): each for part in list_parts() for each in part.options or ()}
    assert [] == [name for name, option in options.items() if not (option.meaning and option.type)]
    share = options["dirichlet", "partition_alpha"]
    assert ("number: from 1e-06, up to 1e+06", True) == (share.type, share.meaning != "")


def test_code_of_a_package_is_imported_only_for_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_listed.py").write_text('def net(width: int = 8):\n    """A net.\n\n    More."""\n')
    offer(tmp_path, monkeypatch, "own-listed", model_net="own_listed:net")
    part = named(list_parts(), "net")
    assert Listed("model", "net", "own-listed 1.0", "own_listed:net") == part
    assert "own_listed" not in sys.modules
    read = named(list_parts("model"), "net")
    assert ("A net.", ["width"]) == (read.about, [option.name for option in read.options or ()])
    monkeypatch.delitem(sys.modules, "own_listed")


def test_broken_and_clashing_entry_points_are_listed_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_broken.py").write_text("1 / 0\n")
    entries = {"model_gone": "no_such_module:net", "model_broken": "own_broken:net", "model_2nn": "own_broken:net"}
    offer(tmp_path, monkeypatch, "own-broken", **entries, modle_x="own_broken:net")
    assert "there is no module no_such_module" in str(named(list_parts(), "gone").problem)
    assert "unknown kind 'modle'; did you mean model?" in str(named(list_parts(), "x").problem)
    clash = named(list_parts("model"), "2nn")
    assert "built in, own-broken 1.0" == clash.origin
    assert "is built in and an entry point of own-broken; rename the entry point" in str(clash.problem)
    broken = named(list_parts("model"), "broken")
    assert ("own-broken 1.0", "ZeroDivisionError: division by zero (own_broken.py, line 1)") == (
        broken.origin,
        str(broken.problem).partition(": ")[2],
    )


def test_a_part_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("def net(width, depth: int = 2): ...\n")
    part = describe_part("model", "./net.py:net")
    assert ("by reference", "") == (part.origin, part.about)
    assert [("width", True, None), ("depth", False, 2)] == [(o.name, o.required, o.default) for o in part.options or ()]
    with pytest.raises(SuiteError, match="there is no file"):
        describe_part("model", "./nett.py:net")
    (tmp_path / "far.py").write_text("def net(reach: float = float('inf')): ...\n")
    done = fedbench_here("components", "model", "./far.py:net", "--json", folder=tmp_path)
    assert [None] == [option["default"] for option in json.loads(done.out)["components"][0]["options"]]


def test_the_command(tmp_path: Path) -> None:
    done = fedbench_here("components", "algorithm", folder=tmp_path)
    assert (0, "") == (done.code, done.err)
    assert "proximal_weight  number: from 0  0.01" in done.out
    assert "fedavgm" in fedbench_here("components", folder=tmp_path).out
    wrong = fedbench_here("components", "algoritm", folder=tmp_path)
    assert (2, True) == (wrong.code, "error: unknown kind 'algoritm'; did you mean algorithm?" in wrong.err)
    parts = json.loads(fedbench_here("components", "--json", folder=tmp_path).out)["components"]
    assert {"kind", "name", "origin", "target", "about", "options", "problem"} == {*parts[0]}
