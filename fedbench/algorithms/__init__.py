"""The federated algorithms: one file each, and one line each in `ALGORITHMS`. Listing them imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.core import Algorithm


@dataclass(frozen=True)
class AlgorithmInfo:
    """What is known of an algorithm without importing it.

    Attributes
    ----------
    target
        ``module:class`` below `fedbench.algorithms`. The class is an `Algorithm` and takes the options as keywords.
    options
        The scenario fields that it reads, with its defaults.
    """

    target: str
    options: Mapping[str, float | None] = field(default_factory=dict)


ALGORITHMS: dict[str, AlgorithmInfo] = {
    "fedavg": AlgorithmInfo("fedavg:FedAvg"),
    "fedavgm": AlgorithmInfo("fedavgm:FedAvgM", {"server_learning_rate": 1.0, "server_momentum": 0.9}),
    "fedadam": AlgorithmInfo(
        "fedadam:FedAdam", {"server_learning_rate": 0.01, "server_momentum": 0.9, "server_adaptivity": 1e-3}
    ),
    "fedyogi": AlgorithmInfo(
        "fedyogi:FedYogi", {"server_learning_rate": 0.01, "server_momentum": 0.9, "server_adaptivity": 1e-3}
    ),
    "fedprox": AlgorithmInfo("fedprox:FedProx", {"proximal_weight": 0.01}),
    "scaffold": AlgorithmInfo("scaffold:Scaffold", {"server_learning_rate": 1.0}),
}


def make_algorithm(name: str, options: Mapping[str, float | None]) -> Algorithm:
    """The algorithm `name`; `options` has a value for each of its own."""
    module, _, attribute = ALGORITHMS[name].target.partition(":")
    algorithm: Algorithm = getattr(import_module(f"fedbench.algorithms.{module}"), attribute)(**options)
    return algorithm
