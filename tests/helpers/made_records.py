"""Records of runs as a baseline has them, made from accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedbench.gate.baseline import Baseline, CellRecord, RoundRecord, SeedRecord
from fedbench.gate.files import Update
from fedbench.measures import Verdict
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import Cell, Suite

TEXT = """
name: made
question: Is anything worse?
seeds: [0, 1, 2, 3, 4]
defaults: {examples_per_client: 20, rounds: 2}
scenarios:
  - name: grid
    num_clients: [2, 3]
"""


def made_suite(folder: Path, text: str = TEXT) -> Suite:
    path = folder / "made.yaml"
    path.write_text(text)
    return load_suite(path)


def made_round(accuracy: float | None, model: str = "aa", clients: Sequence[str] = ("bb", "cc")) -> RoundRecord:
    metrics = {"accuracy": accuracy, "loss": None if accuracy is None else 1 - accuracy}
    return RoundRecord(metrics=metrics, others="00", model=model, clients=dict(zip("01", clients, strict=False)))


def made_seed(seed: int, *rounds: RoundRecord, verdict: Verdict = Verdict.OK, reason: str | None = None) -> SeedRecord:
    return SeedRecord(seed=seed, verdict=verdict, reason=reason, rounds=rounds)


def made_cell(cell: Cell, accuracies: Mapping[int, float], model: str = "aa") -> CellRecord:
    """A cell whose seeds end with these accuracies, after a first round of 0.1; `model` is the digest of each."""
    seeds = tuple(made_seed(seed, made_round(0.1), made_round(value, model)) for seed, value in accuracies.items())
    return CellRecord(label=cell.label, spec=cell.spec.values, data="d1", seeds=seeds)


def made_baseline(suite: Suite, *cells: CellRecord) -> Baseline:
    return Baseline(
        suite=suite.name,
        metric="accuracy",
        margin=0.01,
        revision=ALGORITHM_REVISION,
        environment={"torch": "2.14.1"},
        history=(Update(commit="c0ffee", date="2026-11-25", reason="first baseline"),),
        cells=cells or tuple(made_cell(cell, dict.fromkeys(suite.seeds, 0.9)) for cell in suite.cells),
    )
