"""What goes to an executor and what comes back: jobs, and the events of runs that are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.measures import RunResult
    from fedbench.runs.checkpoints import Checkpoint
    from fedbench.suites.schema import RunSpec


@dataclass(frozen=True)
class Job:
    """A run to be computed.

    Attributes
    ----------
    fingerprint, cell_fingerprint
        See `fedbench.runs.identity.fingerprint`.
    checkpoint
        Where the run's state is saved, and from where it resumes; None: nowhere.
    digests
        Whether each round has the digests of its models.
    data
        The digest of the data that it reads; empty: any.
    computed_with
        What is to compute it (see `fedbench.runs.computing`); empty: whatever does.
    """

    run: RunSpec
    fingerprint: str = ""
    cell_fingerprint: str = ""
    checkpoint: Path | None = None
    digests: bool = False
    data: str = ""
    computed_with: str = ""


@dataclass(frozen=True)
class Digests:
    """What tells two models apart to the last bit: the averaged model's digest, and each client's own, if measured."""

    model: str
    clients: Mapping[int, str]


@dataclass(frozen=True)
class RoundDone:
    """A run ended a round, counted from 1; `metrics` is all that was measured of it, by name.

    `digests` is None unless the job asked for them, and in rounds that are re-emitted from a checkpoint.
    """

    run: RunSpec
    round: int
    metrics: Mapping[str, float]
    digests: Digests | None = None


@dataclass(frozen=True)
class RunDone:
    """A run ended. `final` is its state after the last round; None if it died of an error."""

    run: RunSpec
    result: RunResult
    final: Checkpoint | None = None


@dataclass(frozen=True)
class Outcome:
    """A run and its result; `executed` says whether it was computed now, and `elsewhere` if it was not here."""

    run: RunSpec
    result: RunResult
    executed: bool
    elsewhere: str | None = None  # see `fedbench.util.environment.elsewhere`


Event = RoundDone | RunDone
