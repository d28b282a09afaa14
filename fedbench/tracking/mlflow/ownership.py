"""Which runs of an experiment this process works on: claims are made, kept alive and given up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException

from fedbench.measures import RunResult
from fedbench.tracking.mlflow.claims import HEARTBEAT_SECONDS, Claim, ClaimState, Decision, claims_of, decide
from fedbench.tracking.mlflow.reading import is_finished, search_runs, stored_result
from fedbench.tracking.mlflow.store import store_errors
from fedbench.util.errors import FedbenchError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

UNFINISHED = ("RUNNING", "SCHEDULED", "KILLED")
HEART_SECONDS = 5.0  # for a beat under way to come to its end
SURE_SECONDS = 5.0  # after a look: so soon nobody takes a run up, since its claim looks alive for a minute
WAIT_SECONDS = 0.05  # until another process that wants the same run has made up its mind


class Ownership:
    """The runs of one experiment that belong to this process; see `fedbench.tracking.mlflow.claims`.

    Attributes
    ----------
    claim
        This process's.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self.claim = Claim.of_this_process()
        self._own: set[str] = set()
        self._seen: dict[str, tuple[float, float]] = {}  # when each run was surely ours, by two clocks
        self._owning = Lock()
        self._closed = Event()
        self._heart: Thread | None = None

    def runs_of(self, fingerprint: str) -> list[Run]:
        """The seeds' runs of a fingerprint that are not superseded."""
        wanted = f"tags.`fedbench.fingerprint` = '{fingerprint}' and tags.`fedbench.kind` = 'run'"
        return search_runs(self.client, self.experiment_id, wanted)

    def rivals(self, runs: Iterable[Run]) -> list[Claim]:
        """Claims of other live processes on runs that are not finished."""
        claims = [claim for run in runs if is_cut_off(run) for claim in claims_of(run.data.tags)]
        return [claim for claim in claims if claim.name != self.claim.name and claim.is_alive()]

    def want(self, run_id: str) -> None:
        """Claim a run, to begin with."""
        self._write(run_id, "wanted")

    def _write(self, run_id: str, state: ClaimState) -> None:
        claim = self.claim.refreshed(state)
        self.client.set_tag(run_id, claim.tag, claim.text())

    def _take(self, run_id: str, params: Sequence[Param]) -> None:
        """Own a run, and give it its parameters in the same request."""
        claim = self.claim.refreshed("owned")
        with self._owning:
            self.client.log_batch(run_id, params=params, tags=[RunTag(claim.tag, claim.text())])
            self._own.add(run_id)
            self._seen[run_id] = _now()

    def contend(
        self, run_id: str, fingerprint: str, fresh: bool, params: Sequence[Param] = ()
    ) -> list[Run] | RunResult | None:
        """All runs of the fingerprint once this one is ours, with `params`; else another process's result, or None."""
        while True:
            runs = self.runs_of(fingerprint)
            if result := result_among(run for run in runs if not fresh or run.info.run_id == run_id):
                return result
            match decide(self.claim, self.rivals(runs)):
                case Decision.OWN:
                    self._take(run_id, params)
                    return runs
                case Decision.LEAVE:
                    return None
            time.sleep(WAIT_SECONDS)

    def owns(self, run_id: str) -> bool:
        """Whether a run is still this process's, which may have been asleep for minutes."""
        if run_id in self._seen and _seconds_since(self._seen[run_id]) < SURE_SECONDS:
            return True
        now = _now()
        with store_errors(self.uri):
            run = self.client.get_run(run_id)
        is_ours = run.info.lifecycle_stage == "active" and self.claim.tag in run.data.tags
        if is_ours:
            self._seen[run_id] = now
        return is_ours

    def release(self, run_id: str) -> None:
        """Give up the claim on a run."""
        with self._owning, store_errors(self.uri), suppress(MlflowException):  # it may be gone
            self._own.discard(run_id)
            self._seen.pop(run_id, None)
            self.client.delete_tag(run_id, self.claim.tag)

    def begin(self) -> None:
        """Keep the claims alive from now on, if that is not done yet."""
        if self._heart is None:
            self._heart = Thread(target=self._beat, daemon=True)
            self._heart.start()

    def end(self) -> list[str]:
        """Stop that; the runs that were not released."""
        self._closed.set()
        if self._heart:
            self._heart.join(HEART_SECONDS)  # a server that is away may have its beat wait for minutes
        return sorted(self._own)

    def _beat(self) -> None:
        """Say of each run under way, now and then, that this process still works on it."""
        while not self._closed.wait(HEARTBEAT_SECONDS):
            with self._owning, suppress(FedbenchError), store_errors(self.uri):  # the main thread sees what is wrong
                self._own = {run_id for run_id in self._own if self.owns(run_id)}  # it may have been asleep for minutes
                for run_id in self._own:
                    self._write(run_id, "owned")


def _now() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _seconds_since(then: tuple[float, float]) -> float:
    """By the clock that says more: one may stand still while the machine sleeps, the other may be set back."""
    return max(now - before for now, before in zip(_now(), then, strict=True))


def is_cut_off(run: Run) -> bool:
    """Whether a run is not finished: some process works on it, or none does any more."""
    return run.info.status in UNFINISHED


def result_among(runs: Iterable[Run]) -> RunResult | None:
    """The result of the latest finished run."""
    finished = [run for run in runs if is_finished(run)]
    return stored_result(finished[-1]) if finished else None
