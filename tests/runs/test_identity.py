"""What a run's fingerprint covers, and that those of earlier versions stay as they were."""

from __future__ import annotations

from ctypes import CDLL
from typing import Any

import pytest
from torch import Tensor

from fedbench.algorithms import ALGORITHMS
from fedbench.algorithms.fedprox import FedProx
from fedbench.components import find
from fedbench.hooks import Algorithm, ServerContext, Vectors
from fedbench.kernels.loading import Choice
from fedbench.runs import computing
from fedbench.runs.identity import fingerprint
from fedbench.suites.cell import CellSpec
from fedbench.suites.schema import RunSpec


def fingerprint_of(**fields: Any) -> str:
    return fingerprint(RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**fields), seed=0), "d", "cpu")


def test_what_computes_it_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "choice", lambda: Choice("x86-64-v3", CDLL(None), ""))
    by_kernels, with_momentum = fingerprint_of(), fingerprint_of(momentum=0.5)
    monkeypatch.setattr(computing, "choice", lambda: Choice("x86-64-v4", CDLL(None), ""))
    assert (by_kernels, with_momentum) == (fingerprint_of(), fingerprint_of(momentum=0.5))
    monkeypatch.setattr(computing, "choice", lambda: Choice("torch", None, ""))
    assert by_kernels != fingerprint_of()
    assert with_momentum != fingerprint_of(momentum=0.5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, computing.KERNELS),
        ({"algorithm": "scaffold", "model": "2nn"}, computing.KERNELS),
        ({"momentum": 0.5}, computing.GRADIENTS),
        ({"clip_norm": 1.0}, computing.GRADIENTS),
        ({"augmentation": "random-crop"}, computing.GRADIENTS),
        ({"aggregation": "median"}, computing.GRADIENTS),
        ({"aggregation": "aligned"}, computing.KERNELS),
        ({"aggregation": "aligned", "repair": True, "examples_per_client": 100}, computing.GRADIENTS),
        ({"aggregation": "aligned", "align_by": "activations", "examples_per_client": 100}, computing.GRADIENTS),
    ],
)
def test_what_computes_a_run_follows_from_its_fields(
    fields: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "choice", lambda: Choice("x86-64-v3", CDLL(None), ""))
    assert expected == computing.computed_with(CellSpec(**fields), "cpu")
    assert computing.PYTORCH == computing.computed_with(CellSpec(**fields), "cuda")


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
        {"aggregation": "aligned"},
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
