"""What a run's fingerprint covers, and that those of earlier versions stay as they were."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from fedbench.algorithms import ALGORITHMS
from fedbench.algorithms.fedprox import FedProx
from fedbench.components import find
from fedbench.hooks import Algorithm, ServerContext, Vectors
from fedbench.runs.identity import fingerprint
from fedbench.suites.cell import CellSpec
from fedbench.suites.schema import RunSpec


def fingerprint_of(**fields: Any) -> str:
    return fingerprint(RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**fields), seed=0), "d", "cpu")


def test_a_run_keeps_the_fingerprint_that_it_had_before_there_were_more_fields() -> None:
    """Computed by the version that had no optimiser, aggregation and augmentation: finished runs stay finished."""
    assert "7e3e8caf2736384d2c20e4409e3282e9cd2dc6dacf6c27abf1fe41b040f95ddc" == fingerprint_of()
    assert "0d7822da2e145ea0aff652b6187c60865333a41ed4e96966053293998e13acf5" == fingerprint_of(algorithm="fedprox")


@pytest.mark.parametrize(
    "fields",
    [
        {"momentum": 0.5},
        {"momentum": 0.5, "nesterov": True},
        {"weight_decay": 0.1},
        {"clip_norm": 1.0},
        {"learning_rate_decay": 0.99},
        {"augmentation": "random-crop"},
        {"augmentation": "random-crop", "crop_padding": 2},
        {"aggregation": "median"},
        {"weights": "uniform"},
        {"average_frozen": True},
        {"pixels": "unit"},
    ],
)
def test_every_field_of_a_step_and_an_average_is_covered(fields: dict[str, Any]) -> None:
    others = [{}, {"momentum": 0.5}, {"augmentation": "random-crop"}]
    assert fingerprint_of(**fields) not in {fingerprint_of(**other) for other in others if other != fields}


def test_an_algorithms_revision_is_covered_unless_it_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    before, other = fingerprint_of(algorithm="fedprox"), fingerprint_of()
    monkeypatch.setattr(FedProx, "revision", 2)
    assert before != fingerprint_of(algorithm="fedprox")
    assert other == fingerprint_of()


def test_algorithms_with_a_server_step_of_their_own_are_not_what_they_were() -> None:
    """Their drift and gain were measured against the model after the step; a user's own ones too."""

    class Own(Algorithm):
        def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
            return average, context.memory

    revisions = {name: find("algorithm", name).load().revision for name in ALGORITHMS}
    assert {"fedavg": 1, "fedavgm": 2, "fedadam": 2, "fedyogi": 2, "fedprox": 1, "scaffold": 2} == revisions
    assert 2 == Own.revision
