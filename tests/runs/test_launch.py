"""When a suite's workers are prepared: not if nothing is left to compute."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fedbench_here

from fedbench.runs.launch import Where

TWO = """
name: two
question: Is it finished?
seeds: [0, 1]
scenarios: [{name: a, examples_per_client: 10, rounds: 1, local_epochs: 1}]
"""


def test_workers_are_prepared_only_if_runs_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[bool] = []
    choose = Where.choose

    def note(where: Where, imports_ahead: bool) -> object:
        prepared.append(imports_ahead)
        return choose(where, imports_ahead)

    monkeypatch.setattr(Where, "choose", note)
    (tmp_path / "two.yaml").write_text(TWO)
    command = ("run", "two.yaml", "--workers", "1", "--no-models")
    for more in ((), (), ("--fresh",), ("--seeds", "0-9"), ("--seeds", "0")):
        assert 0 == fedbench_here(*command, *more, folder=tmp_path).code
    assert [True, False, True, True, False] == prepared
