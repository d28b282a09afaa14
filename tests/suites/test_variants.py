"""The names of variants: what is set from outside is recorded apart from the suite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from command import fedbench_here
from process import TINY, complaint

from fedbench.suites.loading import load_suite
from fedbench.suites.variants import NAME, variant_of

LONG = {"dataset": {"use": "./my data/reader.py:load", "columns": ["a", "b"]}, "model": "./net.py:Net"}


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, None),
        ({"learning_rate": 0.1}, "learning_rate=0.1"),
        ({"rounds": 3, "num_clients": [2, 3]}, "num_clients=2+3,rounds=3"),  # in whatever order they are given
        (
            {"batch_size": None, "stop_at_target": True, "partition": "iid"},
            "batch_size=null,partition=iid,stop_at_target=true",
        ),
    ],
)
def test_the_name_is_made_of_what_is_set(overrides: dict[str, Any], name: str | None) -> None:
    assert name == variant_of(overrides) == variant_of(dict(reversed(overrides.items())))


@pytest.mark.parametrize("overrides", [LONG, {"model": "./net.py:Net"}, {"": "é"}, {"a": "x" * 500}])
def test_what_a_name_cannot_hold_gets_a_digest(overrides: dict[str, Any]) -> None:
    name = variant_of(overrides)
    assert name is not None
    assert re.fullmatch(NAME, name)
    assert re.search(r"-[0-9a-f]{6}$", name)
    assert name != variant_of(overrides | {"rounds": 2})
    assert name == variant_of(dict(overrides))


def test_a_variant_is_a_suite_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    suite = load_suite(tmp_path / "tiny.yaml", overrides={"rounds": 3}, variant="longer")
    assert {"tiny@longer"} == {suite.name, *(cell.suite for cell in suite.cells), *(run.suite for run in suite.runs)}


def test_runs_of_a_variant_do_not_mix_with_the_suites(tmp_path: Path) -> None:
    """And the same command skips them; a report of what never ran says how a variant is made."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    few = ("--only", "pair", "--workers", "1", "--no-models", "--seeds", "0")
    assert "1 run executed." in fedbench_here("run", "tiny.yaml", *few, folder=tmp_path).out
    again = ("run", "tiny.yaml", *few, "--set", "rounds=1")
    assert (
        "1 run executed. Compare them in the MLflow UI: fedbench ui tiny@rounds=1"
        in fedbench_here(*again, folder=tmp_path).out
    )
    assert "0 runs executed, 1 was already finished." in fedbench_here(*again, folder=tmp_path).out
    for name in ("tiny", "tiny@rounds=1"):
        assert "1 run." in fedbench_here("runs", "list", name, folder=tmp_path).out
    assert fedbench_here("export", "tiny@rounds=1", "--out", "a.csv", folder=tmp_path).out.startswith("a.csv: 1 row")
    said = complaint(fedbench_here("runs", "list", "tiny@rounds=9", folder=tmp_path))
    assert said.endswith("(it has tiny, tiny@rounds=1): fedbench run tiny --set FIELD=VALUE")
    assert "tiny@x is a variant, which has records and no file: name tiny" in complaint(
        fedbench_here("check", "tiny@x", folder=tmp_path)
    )
    other = complaint(fedbench_here("run", "tiny.yaml", "--variant", "a/b", folder=tmp_path))
    assert "--variant is 'a/b'; it must be up to 60 letters" in other
