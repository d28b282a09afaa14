"""A cell's own run in MLflow: the summary of its seeds, round by round, with the seeds' runs nested below it."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Run

from fedbench.measures import AVERAGING_GAIN, CLIENT_ACCURACY, PLAIN_GAIN, RECOVERED, Verdict, judge_cell
from fedbench.stats import spread_by_step
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.describe import NOTE, cell_note
from fedbench.tracking.mlflow.door import param_texts
from fedbench.tracking.mlflow.reading import is_finished, read_artifact, read_history, search_runs
from fedbench.tracking.mlflow.store import checkpoint_folder, local_folder
from fedbench.tracking.records import confusion_csv, recovered_of, sum_confusions
from fedbench.util.environment import COMPUTED_BY, SOURCE_TAGS
from fedbench.util.locks import lock

if TYPE_CHECKING:
    from fedbench.tracking.mlflow.client import StoreClient

CELL = "fedbench.cell_fingerprint"
PARENT = "mlflow.parentRunId"
SHARED = tuple(f"fedbench.{name}" for name in ("suite", "scenario", "cell", "cell_fingerprint"))  # tags of each seed
NOT_SUMMARISED = (CLIENT_ACCURACY, "client_drift/")  # metrics of one client each
ABANDONED_SECONDS = 3600  # on a server: a summary is written in seconds


Series = Mapping[int, float]  # a metric's values, by step


class Cells:
    """The cells of a suite's experiment."""

    def __init__(self, client: StoreClient, experiment_id: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self._touched: set[str] = set()  # cells of which something ran since the suite began
        self._seen: dict[str, list[Run]] = defaultdict(list)  # by cell, as they were then
        self._series: dict[str, dict[str, dict[int, float]]] = {}  # by run and metric, of what ran here
        self._confusions: dict[str, str] = {}

    def see(self, run: Run) -> None:
        """Keep a run of any kind that was there when the suite began."""
        if cell := run.data.tags.get(CELL):
            self._seen[cell].append(run)

    def touch(self, fingerprint: str) -> None:
        """Expect changes of a cell."""
        self._touched.add(fingerprint)

    def remember(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep what a run measured, so that it need not be read back."""
        series = self._series.setdefault(run_id, defaultdict(dict))
        for key, value in metrics.items():
            series[key][step] = value

    def remember_confusion(self, run_id: str, text: str) -> None:
        """Keep a run's confusion matrix, as CSV."""
        self._confusions[run_id] = text

    def finish(self, fingerprint: str) -> None:
        """Update a cell's own run, if it is out of date."""
        seen = self._seen.pop(fingerprint, [])
        if fingerprint not in self._touched and self._is_up_to_date(seen):
            return
        wanted = f"tags.`{CELL}` = '{fingerprint}'"
        with lock(checkpoint_folder(self.client.uri) / f"{fingerprint}.lock"):
            while not self._settle(runs := search_runs(self.client, self.experiment_id, wanted)):
                pass  # look again: another machine may have recorded something meanwhile
        for run in runs:  # of a hundred thousand runs no more is kept than of the cells under way
            self._series.pop(run.info.run_id, None)
            self._confusions.pop(run.info.run_id, None)

    def _settle(self, runs: Sequence[Run]) -> bool:
        """Leave one summary of the cell, the first that is of the current runs; False if it had to be made."""
        seeds, parents = _current(runs), _of_kind(runs, "cell")
        if not any(map(is_finished, seeds)):  # they were deleted
            self._delete(parents)
            return True
        kept = next((parent for parent in parents if _is_summary_of(parent, seeds)), None)
        if kept is None:
            self._summarise(seeds)
            return False
        for run in seeds:
            if run.data.tags.get(PARENT) != kept.info.run_id:
                self.client.set_tag(run.info.run_id, PARENT, kept.info.run_id)
        self._delete([parent for parent in parents if parent is not kept])
        return True

    def _is_up_to_date(self, runs: Sequence[Run]) -> bool:
        seeds, parents = _current(runs), _of_kind(runs, "cell")
        if len(parents) != 1 or not _is_summary_of(parents[0], seeds):
            return False
        return all(run.data.tags.get(PARENT) == parents[0].info.run_id for run in seeds)

    def _summarise(self, seeds: Sequence[Run]) -> None:
        """Record the summary of the seeds as a new run."""
        measured = [run for run in seeds if is_finished(run)]
        first = measured[0].data
        verdicts = [Verdict(run.data.tags["fedbench.verdict"]) for run in seeds]
        verdict, reason = judge_cell(verdicts, [run.data.tags.get("fedbench.reason") for run in seeds])
        found = summary([self._read_series(run) for run in measured])
        tags = {
            "fedbench.schema": str(SCHEMA_VERSION),
            "fedbench.kind": "cell",
            **{tag: first.tags[tag] for tag in SHARED if tag in first.tags},
            **{tag: text for tag in COMPUTED_BY if (text := _all_of(tag, measured))},
            "fedbench.seeds": ",".join(run.data.tags["fedbench.seed"] for run in measured),
            "fedbench.runs": _digest_of(seeds),
            "fedbench.verdict": str(verdict),
            **({"fedbench.reason": reason} if reason else {}),
            NOTE: cell_note(found, len(measured), verdict, reason),
            **SOURCE_TAGS,
        }
        run_id = self.client.create_run(self.experiment_id, tags=tags, run_name=first.tags["fedbench.cell"]).info.run_id
        now = int(time.time() * 1000)
        params = param_texts(first.params)
        metrics = [Metric(key, value, now, step) for key, series in found.items() for step, value in series.items()]
        self.client.log_all(run_id, metrics, {key: text for key, text in params.items() if key != "seed"})
        ids = [run.info.run_id for run in measured]
        confusions = [self._confusions.get(each) or read_artifact(self.client, each, "confusion.csv") for each in ids]
        with suppress(ValueError):  # one is not there, or damaged
            names, total = sum_confusions([text or "" for text in confusions])
            self.client.log_text(run_id, confusion_csv(total, names), "confusion.csv")
        self.client.set_terminated(run_id, "FINISHED")

    def _delete(self, parents: Iterable[Run]) -> None:
        """Delete summaries, but not one that another machine may be writing."""
        for parent in parents:
            age = time.time() - parent.info.start_time / 1000
            if local_folder(self.client.uri) or parent.info.status == "FINISHED" or age > ABANDONED_SECONDS:
                self.client.delete_run(parent.info.run_id)

    def _read_series(self, run: Run) -> Mapping[str, Series]:
        if (kept := self._series.get(run.info.run_id)) is not None:
            return kept
        keys = (key for key in run.data.metrics if not key.startswith(NOT_SUMMARISED))
        return {key: read_history(self.client, run.info.run_id, key) for key in keys}


def _current(runs: Iterable[Run]) -> list[Run]:
    """The run of each seed that counts: the latest with a verdict, finished ones before failed ones."""
    by_seed: dict[int, Run] = {}
    for run in sorted(_of_kind(runs, "run"), key=is_finished):
        if run.info.status in ("FINISHED", "FAILED") and "fedbench.verdict" in run.data.tags:
            by_seed[int(run.data.tags["fedbench.seed"])] = run
    return [run for _, run in sorted(by_seed.items())]


def _of_kind(runs: Iterable[Run], kind: str) -> list[Run]:
    """In the order in which they began, the same for every process."""
    return sorted(
        (run for run in runs if run.data.tags["fedbench.kind"] == kind),
        key=lambda run: (run.info.start_time, run.info.run_id),
    )


def _all_of(tag: str, runs: Sequence[Run]) -> str:
    """The values of a tag, as ``2.13.0, 2.14.1`` where the seeds of a cell were computed by several."""
    return ", ".join(sorted({run.data.tags[tag] for run in runs if tag in run.data.tags}))


def _digest_of(seeds: Sequence[Run]) -> str:
    """What tells whether a summary is of these runs."""
    return hashlib.sha256(" ".join(sorted(run.info.run_id for run in seeds)).encode()).hexdigest()


def _is_summary_of(parent: Run, seeds: Sequence[Run]) -> bool:
    """Whether a cell's run is the whole summary of these runs."""
    return parent.info.status == "FINISHED" and parent.data.tags.get("fedbench.runs") == _digest_of(seeds)


def summary(seeds: Sequence[Mapping[str, Series]]) -> dict[str, dict[int, float]]:
    """Mean, standard deviation and 95 % interval over seeds, by the metric's name and step.

    With one seed there is a mean only. A metric that some seed lacks is left out. What is recovered is a
    ratio of means.
    """
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for key in sorted(set().union(*seeds)):
        if key.startswith(NOT_SUMMARISED) or key == RECOVERED:
            continue
        for step, over in spread_by_step([values.get(key, {}) for values in seeds]).items():
            found[f"{key}/mean"][step] = over.mean
            if over.std is not None and over.interval is not None:
                found[f"{key}/std"][step] = over.std
                found[f"{key}/ci95_low"][step], found[f"{key}/ci95_high"][step] = over.interval
    gains = [{key: each[key][max(each[key])] for key in (AVERAGING_GAIN, PLAIN_GAIN) if key in each} for each in seeds]
    if ratio := recovered_of(gains):
        step = max(max(each[PLAIN_GAIN]) for each in seeds)
        for name, value in (("mean", ratio.ratio), ("ci95_low", ratio.low), ("ci95_high", ratio.high)):
            found[f"{RECOVERED}/{name}"][step] = value
    return dict(found)
