"""What a suite file says of published results: its key `conformance`. Frozen, hashable, imports no torch."""

from __future__ import annotations

from enum import StrEnum

from fedbench.util.frozen import Frozen


class Measure(StrEnum):
    """What of a scenario is compared with the paper."""

    ROUNDS_TO_TARGET = "rounds_to_target"
    INTERPOLATION_GAIN = "interpolation_gain"


class Reference(Frozen):
    """One row: what the paper says of a scenario, and what is taken for a reproduction of it."""

    # The scenario; it has one cell.
    scenario: str
    # The paper's number, or its words where it gives none; None: it does not say.
    paper: int | float | str | None = None
    # The smallest and the largest mean over seeds that counts as reproduced; None: no bound on that side, or no band.
    band: tuple[int | float | None, int | float | None] | None = None
    measure: Measure = Measure.ROUNDS_TO_TARGET
    # The scenario of which the paper gives this one's speed-up: its rounds over this one's.
    speedup_over: str | None = None
