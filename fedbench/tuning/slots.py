"""A study's slots: each is filled by one trial that ends, however often it had to be started.

A trial whose process died is tried again as another trial of Optuna's, with the same parameters and in the same slot.
So not every trial that Optuna counts as failed has failed. Slots are numbered in the order in which their first trials
were created; these are the trials' numbers in everything that fedbench shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

RESULT = "fedbench.result"  # the attribute of a trial that ended by itself
SURPLUS = "fedbench.surplus"  # of one that two processes began at once, and that was left to the other
CHOSEN = "fedbench.chosen"  # of one that has all of its parameters
MAX_RETRIES = 10  # of a trial whose process dies or is interrupted
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class SlotState(Enum):
    """What has become of a slot's trials."""

    ENDED = auto()
    RUNNING = auto()
    WAITING = auto()
    DEAD = auto()  # and not yet queued again
    GIVEN_UP = auto()  # its processes died too often


@dataclass(frozen=True)
class Slot:
    """The trials of one slot, in the order of Optuna's numbers."""

    trials: Sequence[FrozenTrial]

    @property
    def ended(self) -> FrozenTrial | None:
        """The trial that fills the slot: complete, pruned, or failed with an error."""
        return next((trial for trial in self.trials if has_ended(trial)), None)

    @property
    def state(self) -> SlotState:
        """What has become of the trials."""
        if self.ended:
            return SlotState.ENDED
        states = {trial.state for trial in self.trials}
        if TrialState.RUNNING in states:
            return SlotState.RUNNING
        if TrialState.WAITING in states:
            return SlotState.WAITING
        return SlotState.GIVEN_UP if len(_history(self.trials[-1])) >= MAX_RETRIES else SlotState.DEAD

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be computed."""
        return self.state in (SlotState.ENDED, SlotState.GIVEN_UP)


def has_ended(trial: FrozenTrial) -> bool:
    """Whether a trial is finished with a result; one that was held to be dead after it had one is not."""
    result = trial.user_attrs.get(RESULT)
    return result is not None and STATES.get(result["state"]) is trial.state


def slots(trials: Sequence[FrozenTrial]) -> list[Slot]:
    """The slots of a study's trials."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        if SURPLUS not in trial.user_attrs:
            found.setdefault((*_history(trial), trial.number)[0], []).append(trial)
    return [Slot(found[number]) for number in sorted(found)]


def _history(trial: FrozenTrial) -> list[int]:
    """The numbers of the trials in the same slot that died before this one."""
    return RetryHeartbeatStaleTrialCallback.retry_history(trial)
