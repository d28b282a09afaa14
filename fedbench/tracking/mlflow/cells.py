"""A cell's own run in MLflow: what its seeds come to, round by round, with the seeds' runs nested below it."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from fedbench.measures import CLIENT_ACCURACY, Verdict, judge_cell
from fedbench.stats import spread_by_step
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.claims import Claim, claims_of
from fedbench.tracking.mlflow.reading import infinite, is_finished, search_runs
from fedbench.tracking.mlflow.repeated import create_run, delete_tag
from fedbench.tracking.mlflow.store import MAX_BATCH, store_errors
from fedbench.tracking.records import confusion_csv, parse_confusion

NOT_SUMMARISED = (CLIENT_ACCURACY, "client_drift/")  # they number clients, not what the seeds have in common
CELL = "fedbench.cell_fingerprint"
PARENT = "mlflow.parentRunId"
Series = Mapping[int, float]  # a metric's values, by step


class Cells:
    """The cells of a suite's experiment.

    Attributes
    ----------
    touched
        Fingerprints of the cells of which something ran since.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self.touched: set[str] = set()
        self._seen: dict[str, list[Run]] = defaultdict(list)  # by cell, as they were when the suite began
        self._unmarked: list[Run] = []  # likewise, of schema 1
        self._series: dict[str, dict[str, dict[int, float]]] = {}  # by run and metric, of what ran here
        self._confusions: dict[str, str] = {}
        self._claims: set[str] = set()  # the names of ours, on summaries

    def see(self, run: Run) -> None:
        """Keep a run of any kind that was there when the suite began."""
        cell = run.data.tags.get(CELL)
        (self._unmarked if cell is None else self._seen[cell]).append(run)

    def remember(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep what a run measured, so that it need not be read back."""
        series = self._series.setdefault(run_id, defaultdict(dict))
        for key, value in metrics.items():
            series[key][step] = value

    def remember_confusion(self, run_id: str, text: str) -> None:
        """Likewise for its confusion matrix, as CSV."""
        self._confusions[run_id] = text

    def finish(self, fingerprint: str, fingerprints: Collection[str] = ()) -> None:
        """Bring a cell's own run up to date, if it is not: one run of each seed counts, the others are superseded."""
        with store_errors(self.uri):
            self._mark(fingerprint, fingerprints)
            seen = self._seen.pop(fingerprint, [])
            if fingerprint not in self.touched and self._is_up_to_date(seen):
                return
            wanted = f"tags.`{CELL}` = '{fingerprint}' and tags.`fedbench.kind` != 'superseded'"
            while not self._settle(runs := search_runs(self.client, self.experiment_id, wanted)):
                pass  # look again: another process may have recorded something meanwhile
        for run in runs:  # of a hundred thousand runs no more is kept than of the cells under way
            self._series.pop(run.info.run_id, None)
            self._confusions.pop(run.info.run_id, None)

    def _mark(self, fingerprint: str, fingerprints: Collection[str]) -> None:
        """Give a cell's runs of schema 1 the tag that they lack."""
        for run in self._unmarked:
            if run.data.tags.get("fedbench.fingerprint") in fingerprints:
                # Unlike set_tag it takes a tag that another process makes at the same moment.
                self.client.log_batch(run.info.run_id, tags=[RunTag(CELL, fingerprint)])
                run.data.tags[CELL] = fingerprint
                self._seen[fingerprint].append(run)
        self._unmarked = [run for run in self._unmarked if CELL not in run.data.tags]

    def _settle(self, runs: Sequence[Run]) -> bool:
        """Leave one run of the cell, the first that is of the seeds' present runs; False if it had to be made."""
        seeds, parents = self._current(_of_kind(runs, "run")), _of_kind(runs, "cell")
        if not any(map(is_finished, seeds)):  # they were deleted
            self._delete(parents)
            return True
        kept = next((parent for parent in parents if _is_of(parent, seeds)), None)
        if kept is None:
            self._summarise(seeds)
            return False
        for run in seeds:
            if run.data.tags.get(PARENT) != kept.info.run_id:
                self.client.log_batch(run.info.run_id, tags=[RunTag(PARENT, kept.info.run_id)])
        self._delete([parent for parent in parents if parent is not kept])
        return True

    def _current(self, runs: Iterable[Run]) -> list[Run]:
        """The run of each seed that counts, the latest with a verdict; marks those that do not count any more."""
        by_seed: dict[int, list[Run]] = defaultdict(list)
        for run in runs:
            by_seed[int(run.data.tags["fedbench.seed"])].append(run)
        current = []
        for _, same in sorted(by_seed.items()):
            *others, best = sorted(same, key=lambda run: (is_finished(run), run.info.start_time))
            for other in others:
                if not _is_alive(other):
                    self.client.set_tag(other.info.run_id, "fedbench.kind", "superseded")
            if best.info.status in ("FINISHED", "FAILED") and "fedbench.verdict" in best.data.tags:
                current.append(best)
        return current

    def _is_up_to_date(self, runs: Sequence[Run]) -> bool:
        seeds, parents = self._current(_of_kind(runs, "run")), _of_kind(runs, "cell")
        if len(parents) != 1 or not _is_of(parents[0], seeds):
            return False
        return all(run.data.tags.get(PARENT) == parents[0].info.run_id for run in seeds)

    def _summarise(self, seeds: Sequence[Run]) -> None:
        """Record the seeds' summary as a new run."""
        measured = [run for run in seeds if is_finished(run)]
        first = measured[0].data
        verdicts = [Verdict(run.data.tags["fedbench.verdict"]) for run in seeds]
        verdict, reason = judge_cell(verdicts, [run.data.tags.get("fedbench.reason") for run in seeds])
        kept = ("suite", "scenario", "cell", "cell_fingerprint", "version", "python", "torch", "processor")
        claim = Claim.of_this_process()
        self._claims.add(claim.name)
        tags = {
            "fedbench.schema": str(SCHEMA_VERSION),
            "fedbench.kind": "cell",
            **{f"fedbench.{name}": first.tags[f"fedbench.{name}"] for name in kept if f"fedbench.{name}" in first.tags},
            "fedbench.seeds": ",".join(run.data.tags["fedbench.seed"] for run in measured),
            "fedbench.runs": _runs_digest(seeds),
            "fedbench.verdict": str(verdict),
            **({"fedbench.reason": reason, "mlflow.note.content": f"{verdict}: {reason}"} if reason else {}),
            "mlflow.source.name": "fedbench",
            "mlflow.source.type": "LOCAL",
            claim.tag: claim.text(),
        }
        created = create_run(self.client, self.experiment_id, first.tags["fedbench.cell"], tags)
        run_id = str(created.info.run_id)
        now = int(time.time() * 1000)
        metrics = [
            Metric(key, value, now, step)
            for key, series in summary([self._read_series(run) for run in measured]).items()
            for step, value in series.items()
        ]
        params = [Param(key, value) for key, value in first.params.items() if key != "seed"]
        self.client.log_batch(run_id, params=params)
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])
        confusions = [self._read_confusion(run.info.run_id) for run in measured]
        if all(confusions):
            self.client.log_text(run_id, add_confusions([text for text in confusions if text]), "confusion.csv")
        self.client.set_terminated(run_id, "FINISHED")
        delete_tag(self.client, run_id, claim.tag)

    def _delete(self, parents: Iterable[Run]) -> None:
        for parent in parents:
            if not _is_alive(parent, self._claims):  # else its process settles it
                with suppress(MlflowException):  # another one was quicker to delete it
                    self.client.delete_run(parent.info.run_id)

    def _read_series(self, run: Run) -> Mapping[str, Series]:
        if (kept := self._series.get(run.info.run_id)) is not None:
            return kept
        return {
            key: {
                metric.step: infinite(metric.value) for metric in self.client.get_metric_history(run.info.run_id, key)
            }
            for key in run.data.metrics
            if not key.startswith(NOT_SUMMARISED)
        }

    def _read_confusion(self, run_id: str) -> str | None:
        if run_id in self._confusions:
            return self._confusions[run_id]
        import mlflow.artifacts

        try:
            return mlflow.artifacts.load_text(f"runs:/{run_id}/confusion.csv")
        except (MlflowException, OSError):  # the artifact is gone, or was never written
            return None


def summary(seeds: Sequence[Mapping[str, Series]]) -> dict[str, dict[int, float]]:
    """Mean, standard deviation and 95 % interval over seeds, by metric's name and step.

    With one seed there is a mean only. A metric that some seed lacks is left out.
    """
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for key in sorted(set().union(*seeds)):
        if key.startswith(NOT_SUMMARISED):
            continue
        for step, over in spread_by_step([values.get(key, {}) for values in seeds]).items():
            found[f"{key}/mean"][step] = over.mean
            if over.std is not None and over.interval is not None:
                found[f"{key}/std"][step] = over.std
                found[f"{key}/ci95_low"][step], found[f"{key}/ci95_high"][step] = over.interval
    return dict(found)


def add_confusions(texts: Sequence[str]) -> str:
    """The sum of confusion matrices of the same classes."""
    names, first = parse_confusion(texts[0])
    return confusion_csv(sum((parse_confusion(text)[1] for text in texts[1:]), start=first), names)


def _runs_digest(seeds: Sequence[Run]) -> str:
    """What tells whether a summary is of these runs."""
    return hashlib.sha256(" ".join(sorted(run.info.run_id for run in seeds)).encode()).hexdigest()


def _of_kind(runs: Iterable[Run], kind: str) -> list[Run]:
    """In the order in which they began, the same for every process."""
    return sorted(
        (run for run in runs if run.data.tags["fedbench.kind"] == kind),
        key=lambda run: (run.info.start_time, run.info.run_id),
    )


def _is_of(parent: Run, seeds: Sequence[Run]) -> bool:
    """Whether a cell's run is the whole summary of these runs."""
    return parent.info.status == "FINISHED" and parent.data.tags.get("fedbench.runs") == _runs_digest(seeds)


def _is_alive(run: Run, ours: Collection[str] = ()) -> bool:
    """Whether another process works on a run."""
    claims = [claim for claim in claims_of(run.data.tags) if claim.name not in ours]
    return run.info.status == "RUNNING" and any(claim.is_alive() for claim in claims)
