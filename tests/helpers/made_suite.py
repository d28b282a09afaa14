"""Suites with made numbers that a reader can work out by hand, as records without a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path

from rich.console import Console, RenderableType

from fedbench.measures import Line, Verdict, run_result
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import Cell, RunSpec, Suite
from fedbench.tracking.records import INTERPOLATION, RunRecord, StoredCell, StoredSuite, cell_result, confusion_csv

TEXT = """
name: made
question: What is shown?
seeds: [0, 1, 2]
scenarios:
  - {name: grid, num_clients: [2, 3], examples_per_client: [20, 50], rounds: 2}
  - {name: pair, init: [shared, independent], rounds: 1, interpolation: true}
"""
ONE_CELL = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 2}]\n"
CONFUSION = [[3, 1], [0, 4]]
CLASSES = ["cat", "dog"]
Metrics = Callable[[RunSpec, int], Mapping[str, float]]
Judge = Callable[[RunSpec], tuple[Verdict, str | None]]


def made_suite(folder: Path, text: str = TEXT) -> Suite:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "made.yaml"
    path.write_text(text)
    return load_suite(path)


def metrics_of(run: RunSpec, step: int) -> dict[str, float]:
    """Accuracy 0.5 plus 0.1 for each round, a tenth for each client after the second, and a hundredth of the seed."""
    accuracy = 0.5 + 0.1 * step + 0.1 * (run.spec.num_clients - 2) + 0.01 * run.seed
    return {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "loss": 1 - accuracy,
        "majority_rate": 0.1,
        "train_loss": 1.0,
        "client_drift": 2.0,
        "recall/0": accuracy,
        "recall/1": accuracy - 0.1,
        "averaging_gain": 0.02 + 0.001 * run.seed,
        "client_accuracy/0": accuracy - 0.01,
        "client_accuracy/1": accuracy - 0.03,
        "training_seconds": 1.0,
    }


def rounds_of(run: RunSpec, metrics: Metrics = metrics_of) -> list[Mapping[str, float]]:
    """What each round measures, until the run's last one."""
    found = []
    for step in range(1, run.spec.rounds + 1):
        found.append(metrics(run, step))
        if run.spec.stop_at_target and found[-1]["accuracy"] >= (run.spec.target_accuracy or 1):
            break
    return found


def interpolation_of(run: RunSpec) -> Line:
    """θ, loss and accuracy."""
    return (-0.2, 2.0, 0.3), (0.5, 1.0 + 0.1 * run.seed, 0.6), (1.2, 3.0, 0.2)


def all_ok(_: RunSpec) -> tuple[Verdict, str | None]:
    return Verdict.OK, None


class MadeSource:
    """Histories and artifacts in memory (see `fedbench.tracking.records.Source`)."""

    def __init__(self) -> None:
        self.histories: dict[tuple[str, str], dict[int, float]] = {}
        self.texts: dict[tuple[str, str], str] = {}

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        return self.histories.get((run_id, metric), {})

    def text(self, run_id: str, path: str) -> str | None:
        return self.texts.get((run_id, path))


def stored_suite(suite: Suite, metrics: Metrics = metrics_of, verdict: Judge = all_ok) -> StoredSuite:
    """A suite as it is read back from a store in which each run ended with this verdict."""
    source = MadeSource()
    cells = tuple(_stored_cell(cell, source, metrics, verdict) for cell in suite.cells)
    return StoredSuite(suite.name, suite.question, suite.seeds, cells, 0, "sqlite:///made.db", source)


def _stored_cell(cell: Cell, source: MadeSource, metrics: Metrics, verdict: Judge) -> StoredCell:
    runs = {run.seed: _run_record(run, source, metrics, verdict) for run in cell.runs()}
    results = {run.seed: run_result(*verdict(run), rounds_of(run, metrics)[-1]) for run in cell.runs()}
    fields = tuple(sorted(cell.spec.values.items(), key=str))
    return StoredCell(cell_result(cell, results), runs, (cell.scenario, fields))


def _run_record(run: RunSpec, source: MadeSource, metrics: Metrics, verdict: Judge) -> RunRecord:
    run_id = f"{run.cell} {run.seed}"
    rounds = rounds_of(run, metrics)
    names = {name for each in rounds for name in each}
    for name in names:
        series = {step: each[name] for step, each in enumerate(rounds, start=1) if name in each}
        source.histories[run_id, name] = series
    last = {name: list(source.histories[run_id, name].values())[-1] for name in names}
    if run.spec.interpolation:
        for column, name in enumerate(("loss", "accuracy"), start=1):
            series = {round(100 * point[0]): point[column] for point in interpolation_of(run)}
            source.histories[run_id, f"{INTERPOLATION}{name}"] = series
            last[f"{INTERPOLATION}{name}"] = list(series.values())[-1]
    source.texts[run_id, "confusion.csv"] = confusion_csv(CONFUSION, CLASSES)  # type: ignore[arg-type]
    judged, reason = verdict(run)
    tags = {"fedbench.suite": run.suite, "fedbench.seed": str(run.seed), "fedbench.verdict": str(judged)}
    tags |= {"fedbench.reason": reason} if reason else {}
    return RunRecord(run_id, "finished", 0, 1000, tags, {}, last, is_finished=judged is not Verdict.FAILED)


def shown(renderable: RenderableType, width: int = 160) -> str:
    """What a terminal of this width shows."""
    console = Console(file=StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]
