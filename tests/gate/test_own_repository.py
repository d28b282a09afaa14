"""The gate in a user's own repository: a model that becomes slower, one that becomes worse, and one that does not."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command import Done, fedbench_here
from made_repository import NET, commit, git, made_repository

from fedbench.gate.history import read_history

SLEEP = "import time\n        time.sleep(0.01)\n        return self"
SLOWER = NET.replace("return self", SLEEP)
WORSE = NET.replace(".relu())", ".relu() * 0)")
TRAIN, EVALUATE, AVERAGE = (
    f"{what} ../nets/my_net.py:Net{more}"
    for what, more in (("train", " batch 50 on mnist-5k"), ("evaluate", " on mnist-5k"), ("average 2 of", ""))
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a suite, its model and its baseline."""
    root: Path = tmp_path_factory.mktemp("own") / "mine"
    suite = made_repository(root)
    suite.write_text(suite.read_text().replace(", width: [8, 16]", "").replace("  - {name: plain, model: 2nn", "  # "))
    made = commit(root)
    assert 0 == check(root, "baseline").code
    assert made == json.loads((root / "baselines/digits.json").read_text())["history"][-1]["commit"]
    commit(root)
    return root


def check(root: Path, command: str, *options: str) -> Done:
    with pytest.MonkeyPatch.context() as changes:
        changes.syspath_prepend(str(root))
        return fedbench_here(command, "suites/digits.yaml", "--workers", "1", *options, folder=root)


@pytest.mark.slow
@pytest.mark.nightly  # a planted sleep is found in tests/gate/test_speed.py
def test_a_slower_forward_is_found_and_recorded_with_the_users_commit(repository: Path) -> None:
    before = git(repository, "rev-parse", "HEAD")
    unchanged = check(repository, "check", "--speed", "--against", "HEAD", "--minutes", "0.1")
    assert 0 == unchanged.code, unchanged.out + unchanged.err
    (repository / "nets/my_net.py").write_text(SLOWER)
    slower = commit(repository, "sleep")
    pages = ("--junit", "data/gate.xml", "--markdown", "data/gate.md", "--json")
    done = check(repository, "check", "--speed", "--against", "HEAD~1", *pages)
    found = json.loads(done.out)
    assert (1, before) == (done.code, found["speed"]["against_commit"]), done.err
    assert ["same"] == [each["judgement"] for each in found["accuracy"]["cells"]]
    judged = {each["name"]: each["judgement"] for each in found["speed"]["benchmarks"]}
    assert [TRAIN, EVALUATE, AVERAGE] == list(judged)
    assert {"worse"} == {judged[TRAIN], judged[EVALUATE]}
    assert judged[AVERAGE] in ("not worse", "inconclusive")
    failures = ET.fromstring((repository / "data/gate.xml").read_text()).findall(".//testcase[failure]")  # noqa: S314
    assert [TRAIN, EVALUATE] == [each.get("name") for each in failures]
    assert "### digits and speed: failed" in (repository / "data/gate.md").read_text()
    first, second = read_history("digits", f"sqlite:///{repository}/mlruns/mlflow.db").checks
    assert (before, 3, "passed") == (first.commit, first.count, first.outcome)
    assert (slower, 4, "failed") == (second.commit, second.count, second.outcome)
    assert (TRAIN, EVALUATE) == second.failed
    assert 0 == fedbench_here("history", "digits", folder=repository).code
    assert "" == git(repository, "status", "--porcelain")


@pytest.mark.slow
def test_a_worse_forward_is_found(repository: Path) -> None:
    (repository / "nets/my_net.py").write_text(WORSE)
    done = check(repository, "check", "--no-log", "--json")
    found = json.loads(done.out)
    assert (1, ["worse"]) == (done.code, [each["judgement"] for each in found["accuracy"]["cells"]]), done.err
