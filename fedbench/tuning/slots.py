"""A study's slots: each is filled by one trial that ends, however often it had to be begun.

A trial whose process died is tried again as another trial of Optuna's, with the same parameters and in the same slot.
What Optuna counts as failed is therefore not always a trial that failed. Slots are numbered in the order in which their
first trials were made; these are the trials' numbers in everything that fedbench shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

RESULT = "fedbench.result"  # the attribute of a trial that ended by itself
SURPLUS = "fedbench.surplus"  # of one that was begun by two processes at once, and left to the other
MAX_RETRIES = 10  # of a trial whose process dies or is interrupted
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass
class Slot:
    """The trials of one slot, in the order of Optuna's numbers."""

    trials: list[FrozenTrial] = field(default_factory=list)

    @property
    def ended(self) -> FrozenTrial | None:
        """The trial that fills the slot: complete, pruned, or failed with an error."""
        return next((trial for trial in self.trials if has_ended(trial)), None)

    @property
    def is_open(self) -> bool:
        """Whether one of its trials waits or runs, and none has ended."""
        return self.ended is None and any(not trial.state.is_finished() for trial in self.trials)

    @property
    def is_waiting(self) -> bool:
        """Whether it is open, and nobody computes it."""
        return self.is_open and not any(trial.state is TrialState.RUNNING for trial in self.trials)

    @property
    def is_given_up(self) -> bool:
        """Whether its processes died so often that it is not tried again."""
        return not self.is_open and self.ended is None and num_retries(self.trials[-1]) >= MAX_RETRIES

    @property
    def is_dead(self) -> bool:
        """Whether its process died, and nobody has seen to it that it is tried again."""
        return not self.is_open and self.ended is None and not self.is_given_up


def has_ended(trial: FrozenTrial) -> bool:
    """Whether a trial is finished and came to a result; one that was told to be dead after it had one did not."""
    result = trial.user_attrs.get(RESULT)
    return result is not None and STATES.get(result["state"]) is trial.state


def num_retries(trial: FrozenTrial) -> int:
    """How many trials of its slot died before this one."""
    return len(RetryHeartbeatStaleTrialCallback.retry_history(trial))


def slots(trials: Sequence[FrozenTrial]) -> list[Slot]:
    """The slots of a study's trials."""
    found: dict[int, Slot] = {}
    for trial in trials:
        if SURPLUS not in trial.user_attrs:
            history = RetryHeartbeatStaleTrialCallback.retry_history(trial)
            found.setdefault(history[0] if history else trial.number, Slot()).trials.append(trial)
    return [found[number] for number in sorted(found)]


def slot_of(trials: Sequence[FrozenTrial], number: int) -> int:
    """Which slot the trial with Optuna's `number` is in."""
    numbers = [{trial.number for trial in slot.trials} for slot in slots(trials)]
    return next(index for index, of_slot in enumerate(numbers) if number in of_slot)


def is_surplus(trials: Sequence[FrozenTrial], number: int, wanted: int) -> bool:
    """Whether a trial that has just begun is one more than `wanted`, or its slot is another's."""
    index = slot_of(trials, number)
    others = [trial for trial in slots(trials)[index].trials if trial.number < number]
    return index >= wanted or any(has_ended(trial) or not trial.state.is_finished() for trial in others)
