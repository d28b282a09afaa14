"""A stored suite's report: one HTML page that needs no network, its figures beside it, and both kept in the store."""

from __future__ import annotations

import base64
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from mlflow.exceptions import MlflowException

from fedbench import __version__
from fedbench.measures import MEANINGS, Verdict
from fedbench.partitions.table import PartitionTable, parse_partition
from fedbench.reports.class_figures import distinct_partitions
from fedbench.reports.figures import draw_figures
from fedbench.reports.studies import NO_STUDIES, SUFFIX, Studies, read_studies
from fedbench.reports.style import MAX_PANELS, Figure
from fedbench.reports.table import CLIENTS_ALONE, clients_alone, percent, rounds_to_target, short_verdict
from fedbench.stats import Spread
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.cells import parse_confusion
from fedbench.tracking.mlflow.reading import is_finished, search_runs
from fedbench.tracking.mlflow.store import store_errors, without_password
from fedbench.util.files import plain_errors, replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedbench.reports.reading import StoredCell, StoredSuite

PAGE = "report.html"
FIGURES = "figures"


@dataclass(frozen=True)
class Column:
    """A column of the report's table: its title, what it means, and how a cell fills it."""

    title: str
    meaning: str
    value: Callable[[StoredCell], str]
    is_text: bool = False


def _percent(metric: str) -> Callable[[StoredCell], str]:
    return lambda cell: percent(spread) if (spread := cell.final(metric)) else ""


def _number(metric: str, digits: int) -> Callable[[StoredCell], str]:
    def value(cell: StoredCell) -> str:
        spread = cell.final(metric)
        if spread is None or not math.isfinite(spread.mean):
            return "" if spread is None else "not finite"
        return f"{spread.mean:.{digits}f}" + ("" if spread.std is None else f" ± {spread.std:.{digits}f}")

    return value


def _interval(cell: StoredCell) -> str:
    spread = cell.final("accuracy")
    if spread is None or spread.interval is None:
        return ""
    low, high = max(spread.interval[0], 0.0), min(spread.interval[1], 1.0)  # of few seeds it may go beyond
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _gain(cell: StoredCell) -> str:
    spread = cell.final("averaging_gain")
    return "" if spread is None else f"{100 * spread.mean:+.1f}" + _plus_minus(spread)


def _plus_minus(spread: Spread) -> str:
    return "" if spread.std is None else f" ± {100 * spread.std:.1f}"


def _majority_rate(cell: StoredCell) -> str:
    spread = cell.final("majority_rate")
    return f"{100 * spread.mean:.1f}" if spread else ""


TARGET = (
    "until the accuracy is the cell's target, mean ± standard deviation over seeds if all reached it; else how many "
    "did, in how many rounds"
)
COLUMNS = (
    Column("cell", "", lambda cell: cell.cell.label, is_text=True),
    Column("verdict", "", lambda cell: short_verdict(cell.result.verdict, cell.result.reason), is_text=True),
    Column("accuracy", "percent, mean ± standard deviation over seeds, on the test set", _percent("accuracy")),
    Column("95 % interval", "of the mean accuracy over seeds, by Student's t distribution", _interval),
    Column("balanced accuracy", "percent; mean over the classes of the share found", _percent("balanced_accuracy")),
    Column("loss", "mean cross-entropy in nats", _number("loss", 3)),
    Column("clients alone", f"percent: {CLIENTS_ALONE.partition(': ')[2]}", lambda cell: clients_alone(cell.result)),
    Column("rounds to target", TARGET, lambda cell: rounds_to_target(cell.result)),
    Column("averaging gain", "percentage points: the average's accuracy minus the clients' mean", _gain),
    Column("client drift", "Euclidean distance of the clients' models from their average", _number("client_drift", 2)),
    Column("majority rate", "percent: what always naming the largest class scores", _majority_rate),
    Column("training s", "seconds of training in the last round", _number("training_seconds", 2)),
    Column("seeds", "how many seeds have numbers", lambda cell: str(len(cell.result.seeds))),
)  # fmt: skip


def make_report(stored: StoredSuite, folder: Path) -> Path:
    """Write the page and the figures into `folder`, which is made; returns the page's path."""
    confusions, gone = read_confusions(stored)
    figures = draw_figures(stored, confusions, read_partitions(stored))
    studies = read_studies(stored.client, stored.uri, stored.suite.name)
    page = render(stored, figures, gone, studies)
    figures += studies.figures
    with plain_errors(f"the report cannot be written to {folder}"):
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        for old in (folder / FIGURES).glob("*.png"):
            if old.stem not in {figure.name for figure in figures}:
                old.unlink()
        for figure in figures:
            with replacing(folder / FIGURES / f"{figure.name}.png", sync=False) as file:
                file.write(figure.png)
        with replacing(folder / PAGE, sync=False) as file:
            file.write(page.encode())
    return folder / PAGE


def log_report(stored: StoredSuite, folder: Path) -> None:
    """Keep the report as artifacts of a run of its own in the suite's experiment, the same one each time."""
    client, experiment_id = stored.client, stored.experiment.experiment_id
    with store_errors(stored.uri):
        found = search_runs(client, experiment_id, "tags.`fedbench.kind` = 'report'")
        if found:
            run_id = found[0].info.run_id
        else:
            tags = {
                "fedbench.schema": str(SCHEMA_VERSION),
                "fedbench.kind": "report",
                "fedbench.suite": stored.suite.name,
                "mlflow.note.content": f"The suite's report: open {PAGE} under Artifacts.",
                "mlflow.source.name": "fedbench",
                "mlflow.source.type": "LOCAL",
            }
            run_id = client.create_run(experiment_id, run_name="report", tags=tags).info.run_id
        client.log_artifact(run_id, str(folder / PAGE))
        client.log_artifacts(run_id, str(folder / FIGURES), FIGURES)
        client.set_terminated(run_id, "FINISHED")


def read_confusions(stored: StoredSuite) -> tuple[dict[str, tuple[list[str], NDArray[np.int64]]], list[str]]:
    """The confusion matrices of the cells that are drawn, by label, and the labels of those whose artifact is gone."""
    found, gone = {}, []
    with TemporaryDirectory() as folder:
        for cell in stored.cells[:MAX_PANELS]:
            if (summary := stored.summary(cell)) is None:
                continue
            try:
                path = stored.client.download_artifacts(summary.info.run_id, "confusion.csv", folder)
                found[cell.cell.label] = parse_confusion(Path(path).read_text())
            except (MlflowException, OSError, ValueError):
                gone.append(cell.cell.label)
    return found, gone


def read_partitions(stored: StoredSuite) -> dict[str, PartitionTable]:
    """Who has what in each partition that is drawn, of its first cell's first finished seed, by that cell's label.

    A run that an older fedbench recorded has none.
    """
    found = {}
    with TemporaryDirectory() as folder:
        for cell in distinct_partitions(stored)[:MAX_PANELS]:
            run = next(run for run in cell.runs.values() if is_finished(run))
            try:
                path = stored.client.download_artifacts(run.info.run_id, "partition.csv", folder)
                found[cell.cell.label] = parse_partition(Path(path).read_text())
            except (MlflowException, OSError, ValueError):
                continue
    return found


def render(
    stored: StoredSuite, figures: Sequence[Figure], gone: Sequence[str] = (), studies: Studies = NO_STUDIES
) -> str:
    """The page. `gone` are cells whose confusion matrix is no longer in the store."""
    environment = Environment(
        loader=PackageLoader("fedbench.reports", "."),
        autoescape=select_autoescape(["jinja"]),
        undefined=StrictUndefined,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    present = {cell.result.verdict for cell in stored.cells}
    columns = [column for column in COLUMNS if any(column.value(cell) for cell in stored.cells)]
    return environment.get_template("report.html.jinja").render(
        name=stored.suite.name,
        question=stored.suite.question,
        facts=_facts(stored),
        sentences=list(sentences(stored.cells)),
        columns=columns,
        rows=[
            {
                "begins_scenario": index > 0 and cell.cell.scenario != stored.cells[index - 1].cell.scenario,
                "entries": [column.value(cell) for column in columns],
                "verdict": cell.result.verdict,
            }
            for index, cell in enumerate(stored.cells)
        ],
        verdicts=[(verdict, meaning) for verdict, meaning in MEANINGS.items() if verdict in present],
        figures=figures,
        studies=studies.parts,
        studies_first=stored.suite.name.endswith(SUFFIX),
        origins=list(_origins(stored, gone, studies.lost)),
    )


def _facts(stored: StoredSuite) -> str:
    runs = sum(len(cell.runs) for cell in stored.cells)
    datasets = sorted({f"{cell.cell.spec.dataset} ({cell.cell.spec.split})" for cell in stored.cells})
    models = sorted({cell.cell.spec.model for cell in stored.cells})
    return (
        f"{len(stored.cells)} cells, {runs} runs, {len(stored.suite.seeds)} seeds; "
        f"dataset {', '.join(datasets)}; model {', '.join(models)}."
    )


def sentences(cells: Sequence[StoredCell]) -> Iterable[str]:
    """What the numbers say, in words."""
    by_scenario: dict[str, list[StoredCell]] = defaultdict(list)
    for cell in cells:
        by_scenario[cell.cell.scenario].append(cell)
    for scenario, same in by_scenario.items():
        accuracies = [(cell.cell.label, spread) for cell in same if (spread := cell.final("accuracy"))]
        if accuracies:
            yield _best_and_worst(scenario, accuracies)
        if gains := [gain for cell in same if (gain := cell.final("averaging_gain"))]:
            yield f"{scenario}: " + _gains(gains)
    for cell in cells:
        if cell.cell.spec.interpolation and cell.result.verdict is not Verdict.DIVERGED and cell.result.client_accuracy:
            yield f"{cell.cell.label}: the average is " + _average_of_two(cell)
        if cell.result.verdict is not Verdict.OK:
            yield f"{cell.cell.label}: {cell.result.verdict}, {cell.result.reason}."
    if all(cell.result.verdict is Verdict.OK for cell in cells):
        yield "Every run has the verdict ok: its model beats naming the largest class by more than chance."


def _best_and_worst(scenario: str, accuracies: Sequence[tuple[str, Spread]]) -> str:
    *_, (worst, lowest) = ranked = sorted(accuracies, key=lambda pair: -pair[1].mean)
    best, highest = ranked[0]
    if len(ranked) == 1:
        return f"{best} has {percent(highest)} % accuracy."
    if f"{highest.mean:.3f}" == f"{lowest.mean:.3f}":
        return f"{scenario}: all {len(ranked)} cells have the same accuracy, {percent(highest)} %."
    return f"{best} has the best accuracy, {percent(highest)} %; {worst} has the lowest, {percent(lowest)} %."


def _average_of_two(cell: StoredCell) -> str:
    """In how many seeds the average is worse than both models, between them, or better than both."""
    accuracies = cell.result.measures["accuracy"].values
    worse = better = 0
    for accuracy, clients in zip(accuracies, cell.result.client_accuracy, strict=True):
        worse += accuracy < min(clients.values())
        better += accuracy > max(clients.values())
    between = len(accuracies) - worse - better
    return (
        f"worse than both models in {worse} of {len(accuracies)} seeds, between them in {between}, better in {better}."
    )


def _gains(gains: Sequence[Spread]) -> str:
    """In how many cells averaging helped, as far as the seeds can tell."""
    better = sum(gain.interval is not None and gain.interval[0] > 0 for gain in gains)
    worse = sum(gain.interval is not None and gain.interval[1] < 0 for gain in gains)
    unclear = len(gains) - better - worse
    means = [gain.mean for gain in gains if math.isfinite(gain.mean)]
    spanned = f", from {100 * min(means):+.1f} to {100 * max(means):+.1f} points" if means else ""
    return (
        f"averaging is better than the clients' own models in {better} of {len(gains)} cells, worse in {worse}, "
        f"and {unclear} cannot be told by the seeds (95 % interval of the gain{spanned})."
    )


def _origins(stored: StoredSuite, gone: Sequence[str], lost: Sequence[str]) -> Iterable[str]:
    runs = [run for cell in stored.cells for run in cell.runs.values()]

    def values(tag: str) -> str:
        return ", ".join(sorted({run.data.tags[tag] for run in runs if tag in run.data.tags})) or "unknown"

    last = max((run.info.end_time or run.info.start_time for run in runs), default=0)
    yield f"Store: {without_password(stored.uri)}, experiment {stored.suite.name}."
    yield f"Last run ended {datetime.fromtimestamp(last / 1000, UTC):%Y-%m-%d %H:%M} UTC."
    yield (
        f"fedbench {values('fedbench.version')}, Python {values('fedbench.python')}, "
        f"PyTorch {values('fedbench.torch')}, processor {values('fedbench.processor')}; "
        f"commit {values('mlflow.source.git.commit')}."
    )
    yield f"Report by fedbench {__version__}. Read it again with: fedbench report {stored.suite.name}"
    if stored.left_out:
        yield f"{stored.left_out} older runs of other code, data or device are left out."
    if gone:
        yield f"The confusion matrices of {len(gone)} cells are gone from the store: {', '.join(gone)}."
    if lost:
        yield f"The files of {len(lost)} studies cannot be read from the store: runs {', '.join(lost)}."
    yield (
        "Numbers after ± are standard deviations over seeds; all accuracies are on the test set, by which nothing "
        f"was chosen. Single runs are in the MLflow UI: fedbench ui {stored.suite.name}."
    )
