"""Checkpoints are saved after each round, however slow the disk is."""

from __future__ import annotations

import pytest

from fedbench.runs import simulation


@pytest.fixture(autouse=True)
def _saved_after_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "FREE_SAVING", 60.0)
