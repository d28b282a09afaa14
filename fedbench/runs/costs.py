"""What a run computes, counted in examples: how long it takes is estimated by that."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fedbench.measures import MAX_CLIENTS_MEASURED
from fedbench.runs import alignment
from fedbench.runs.metrics import THETAS

if TYPE_CHECKING:
    from fedbench.suites.schema import CellSpec

OBSERVED = 8  # the cost of an example on which PyTorch observes units, in that of one the kernels evaluate, about
REPAIR = 2  # what repairing a model costs, in that of observing it


@lru_cache
def trained_in_a_round(spec: CellSpec) -> int:
    """Examples that the clients train on in a round, each as often as there are local epochs."""
    return spec.clients_per_round * spec.local_epochs * spec.num_examples


@lru_cache
def evaluated_in_a_round(spec: CellSpec) -> int:
    """Examples that the server's model is evaluated on in a round, and what aligning models by examples costs."""
    rule, num_models = spec.part("aggregation"), spec.clients_per_round
    by_examples = num_models if getattr(rule, "align_by", "") == "activations" else 0
    repair = num_models + REPAIR if getattr(rule, "repair", False) else 0
    return _sizes(spec)[1] + OBSERVED * (by_examples + repair) * getattr(rule, "num_public", 0)


@lru_cache
def evaluated_at_the_end(spec: CellSpec) -> int:
    """Examples that other models are evaluated on in the last round: the clients' own, and those between two."""
    train, test = _sizes(spec)
    if spec.clients_per_round > MAX_CLIENTS_MEASURED:
        return 0
    rule = spec.part("aggregation")
    is_aligned = getattr(rule, "permutes", False)
    found = (spec.clients_per_round + is_aligned) * test  # also the average of models that are not aligned
    if not spec.interpolation:
        return found
    between, observed = len(THETAS[spec.interpolation_set]), 0
    if is_aligned:
        between += len(alignment.THETAS)
        observed += 4 * min(alignment.CORRELATED, test)  # two models before and after they are aligned
    if getattr(rule, "repair", False):
        repaired = len(alignment.THETAS[1:-1])
        between += repaired
        observed += (2 + REPAIR * repaired) * rule.num_public
    return found + between * (train if spec.interpolation_set == "train" else test) + OBSERVED * observed


def _sizes(spec: CellSpec) -> tuple[int, int]:
    train, test = spec.part("dataset").INFO.sizes[spec.split]
    return int(train), int(test)
