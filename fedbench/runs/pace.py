"""How long the runs that are left will take, by those that were computed; what happens once does not count."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedbench.measures import TIMES
from fedbench.runs.costs import evaluated_at_the_end, evaluated_in_a_round, trained_in_a_round
from fedbench.util.progress import phase

if TYPE_CHECKING:
    from fedbench.suites.schema import CellSpec, RunSpec

TRAINING = 3  # the cost of an example in training, in that of one in evaluation
RECORDING = 20_000  # that of recording a run
HALF = 0.5  # of a round under way is done, on average
LEAST = 0.1  # of all work, by which the pace is known


class Pace:
    """The pace of runs that are computed, several at once, and so the seconds that are left.

    The clock starts with the first round. An example costs the same in all runs, which holds for those of one model.
    The pace is that of the later half of what is done, but of a tenth of all at least: what happens once, and what
    other programs did a while ago, does not matter for long.
    """

    def __init__(self, runs: Iterable[RunSpec], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total = sum(_work(run.spec) for run in runs)
        self._done = 0
        self._under_way: dict[RunSpec, int] = {}  # what is done of each
        self._rounds: dict[RunSpec, int] = {}  # that are known
        self._marks = deque[tuple[float, float]]()  # times, and what was done then; the pace is that since the first
        self._has_recorded = False

    def begin(self, run: RunSpec, rounds: int = 0) -> None:
        """A run begins, of which so many rounds were computed before."""
        self._under_way[run] = _rounds_work(run.spec, rounds)
        self._rounds[run] = rounds
        self._total -= self._under_way[run]

    def add_round(self, run: RunSpec, number: int, metrics: Mapping[str, float]) -> None:
        """A run has ended a round; one that is re-emitted does not count."""
        if number <= self._rounds[run]:
            return
        self._rounds[run] = number
        if not self._marks:
            self._marks.append((self._clock() - sum(metrics.get(name, 0.0) for name in TIMES), 0.0))
        before, self._under_way[run] = self._under_way[run], _rounds_work(run.spec, number)
        self._done += self._under_way[run] - before
        self._mark()
        phase("computing", self.seconds_left)

    @contextmanager
    def recorded(self, run: RunSpec) -> Iterator[None]:
        """A run has ended, and is recorded now.

        Recording the first takes longest, which happens once. The others that are under way are computed meanwhile.
        """
        began = self._clock()
        phase("recording")
        yield
        if not self._has_recorded:
            self._has_recorded = True
            lost = (self._clock() - began) / len(self._under_way)
            self._marks = deque([((self._marks[0][0] if self._marks else began) + lost, 0.0)])
        self._done += _work(run.spec) - self._under_way.pop(run)
        self._mark()
        phase("computing" if self._under_way else "recording", self.seconds_left)

    def leave_out(self, run: RunSpec) -> None:
        """A run is not computed here."""
        self._total -= _work(run.spec)

    @property
    def seconds_left(self) -> float | None:
        """None as long as nothing is known."""
        if not self._marks:
            return None
        began, before = self._marks[0]
        done = self._so_far()
        return max((self._clock() - began) * (self._total - done) / (done - before), 0.0) if done > before else None

    def _so_far(self) -> float:
        next_rounds = ((_rounds_work(run.spec, self._rounds[run] + 1), done) for run, done in self._under_way.items())
        return self._done + sum(HALF * (work - done) for work, done in next_rounds)

    def _mark(self) -> None:
        done = self._so_far()
        self._marks.append((self._clock(), done))
        while len(self._marks) > 2 and done - self._marks[1][1] >= max(HALF * done, LEAST * self._total):
            self._marks.popleft()


def _rounds_work(spec: CellSpec, rounds: int) -> int:
    """What so many rounds cost, in examples that are evaluated; in the last one other models are, too."""
    of_each = TRAINING * trained_in_a_round(spec) + evaluated_in_a_round(spec)
    return min(rounds, spec.rounds) * of_each + (evaluated_at_the_end(spec) if rounds >= spec.rounds else 0)


def _work(spec: CellSpec) -> int:
    """What a run costs: its rounds, and recording it."""
    return _rounds_work(spec, spec.rounds) + RECORDING
