"""Which experiment a run is: a fingerprint over everything that determines its numbers but rounding."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from fedbench.runs.computing import device_and_kernels

if TYPE_CHECKING:
    from fedbench.suites.schema import RunSpec

ALGORITHM_REVISION = 3  # raise it with every change that moves a number of an unchanged spec on unchanged data


def fingerprint(run: RunSpec, dataset_digest: str, device: str, *, of_cell: bool = False) -> str:
    """The identity of a run: SHA-256 over all that determines its numbers but rounding.

    That is the scenario's name, the cell's spec with the source of each part that is not built in, the seed, the data's
    content, what computes it and `ALGORITHM_REVISION`. The fingerprint of its cell is the same without the seed. Runs
    of one fingerprint have equal bits where `fedbench.util.environment.elsewhere` finds no difference.
    """
    content = {
        "scenario": run.scenario,
        "spec": run.spec.identity,
        "seed": run.seed,
        "data": dataset_digest,
        "device": device_and_kernels(run.spec, device),
        "revision": ALGORITHM_REVISION,
    }
    if of_cell:
        del content["seed"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
