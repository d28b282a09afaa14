"""A suite's report: one HTML page that needs no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from fedbench import __version__
from fedbench.measures import MEANINGS, PLAIN_GAIN
from fedbench.reports.answer_figures import answer_figures
from fedbench.reports.answers import Answer, answer_all
from fedbench.reports.answers.text import HOW
from fedbench.reports.figure import Figure
from fedbench.reports.figures import suite_figures
from fedbench.reports.html import page_html, write_page
from fedbench.reports.layout import bounds_text, seeds_text, short_verdict
from fedbench.reports.measure import ACCURACY, BALANCED_ACCURACY, DRIFT, GAIN, LOSS, RISE, TRAINING, Measure
from fedbench.reports.results import CLIENTS_ALONE, RECOVERED_MEANING, clients_alone, recovered, rounds_to_target
from fedbench.reports.sentences import sentences
from fedbench.reports.studies import StudyPart, study_parts
from fedbench.tracking.mlflow.database import DEFAULT_FOLDER, chosen_store
from fedbench.tracking.records import StoredCell, StoredSuite
from fedbench.tuning.results import SUFFIX
from fedbench.util.advice import command
from fedbench.util.text import counted

if TYPE_CHECKING:
    from fedbench.tuning.reading import StoredStudies

PAGE = "report.html"


@dataclass(frozen=True)
class Column:
    """A column of the report's table; it is left out if it is empty for every cell."""

    title: str
    meaning: str
    value: Callable[[StoredCell], str]
    is_text: bool = False


def _final(measure: Measure) -> Callable[[StoredCell], str]:
    def value(cell: StoredCell) -> str:
        spread = cell.final(measure.metric)
        if spread is None or not math.isfinite(spread.mean):
            return "" if spread is None else "not finite"
        return measure.over_seeds(spread)

    return value


def _interval(cell: StoredCell) -> str:
    over = cell.final("accuracy")
    bounds = (min(max(bound, 0), 1) for bound in (over and over.interval) or ())  # few seeds may give more than [0, 1]
    return bounds_text(bounds, ".1f", 100)


def _recovered(cell: StoredCell) -> str:
    if PLAIN_GAIN not in cell.metrics:
        return ""
    return recovered(cell.result) or "no gap"


def _majority_rate(cell: StoredCell) -> str:
    spread = cell.final("majority_rate")
    return f"{100 * spread.mean:.1f}" if spread else ""


TARGET = (
    "until the accuracy reaches the cell's target, mean ± standard deviation over seeds if all reached it; otherwise "
    "how many did, within how many rounds"
)
BARRIER_MEANING = (
    "nats: how far the loss on the line between the two clients' models rises above the line between their losses"
)
SEEDS = (
    "the number of seeds that have numbers; ± is the standard deviation over them, which a single seed does not have"
)
COLUMNS = (
    Column("cell", "", lambda cell: cell.label, is_text=True),
    Column("accuracy", "percent on the test set", _final(ACCURACY)),
    Column("verdict", "", lambda cell: short_verdict(cell.result.verdict, cell.result.reason), is_text=True),
    Column("95 % interval", "of the mean accuracy over seeds, by Student's t distribution", _interval),
    Column("balanced accuracy", "percent; the mean recall over classes", _final(BALANCED_ACCURACY)),
    Column("loss", "mean cross-entropy in nats", _final(LOSS)),
    Column("clients alone", f"percent: {CLIENTS_ALONE.partition(': ')[2]}", lambda cell: clients_alone(cell.result)),
    Column("rounds to target", TARGET, lambda cell: rounds_to_target(cell.result)),
    Column("averaging gain", "percentage points: the average's accuracy minus the clients' mean", _final(GAIN)),
    Column(
        "recovered",
        f"percent: {RECOVERED_MEANING.partition(': ')[2]} No gap: none is shown by the seeds",
        _recovered,
    ),
    Column("barrier", BARRIER_MEANING, _final(RISE)),
    Column("client drift", "Euclidean distance of the clients' models from their average", _final(DRIFT)),
    Column("majority rate", "percent: the accuracy of always predicting the largest class", _majority_rate),
    Column("training s", "seconds of training in the last round", _final(TRAINING)),
    Column("seeds", SEEDS, lambda cell: str(len(cell.result.seeds))),
)


def default_folder(name: str) -> Path:
    """Where the report of a suite is written if no other place is given."""
    return DEFAULT_FOLDER / "reports" / name


def make_report(stored: StoredSuite, folder: Path, tuning: StoredStudies | None = None) -> Path:
    """Write the page into `folder`, which is created; returns its path.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    studies, lost = study_parts(tuning) if tuning else ([], [])
    answers = answer_all(stored.current, stored.contrast)
    figures = [*answer_figures(answers), *suite_figures(stored)]
    out = None if folder == default_folder(stored.name) else folder
    write_page(render(stored, figures, studies, lost, out, answers), folder / PAGE)
    return folder / PAGE


def render(
    stored: StoredSuite,
    figures: Sequence[Figure],
    studies: Sequence[StudyPart] = (),
    lost: Sequence[str] = (),
    out: Path | None = None,
    answers: Sequence[Answer] = (),
) -> str:
    """The page's HTML; `lost` are the runs of studies that cannot be shown, `out` is the option."""
    present = {cell.result.verdict for cell in stored.cells}
    columns = [column for column in COLUMNS if any(column.value(cell) for cell in stored.cells)]
    scenarios = [cell.scenario for cell in stored.cells]
    return page_html(
        stored.name,
        "report",
        figures,
        [figure for study in studies for figure in study.figures],
        question=stored.question,
        facts=_facts(stored),
        answers=answers,
        how=HOW if any(answer.overall.pairs for answer in answers) else "",
        sentences=list(sentences(stored.cells)),
        columns=columns,
        rows=[
            {
                "begins_scenario": before not in (cell.scenario, None),
                "entries": [column.value(cell) for column in columns],
                "verdict": cell.result.verdict,
                "links": list(_links(stored.place, cell)),
            }
            for cell, before in zip(stored.cells, [None, *scenarios], strict=False)
        ],
        verdicts=[(verdict, meaning) for verdict, meaning in MEANINGS.items() if verdict in present],
        studies=studies,
        studies_first=stored.name.endswith(SUFFIX),
        origins=list(_origins(stored, lost, out)),
    )


def _links(place: str, cell: StoredCell) -> Iterable[tuple[int, str]]:
    """Each seed with the address of its run, if the store is a server."""
    address = urlsplit(place)
    if address.scheme in ("http", "https"):
        server = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl().rstrip("/")
        for seed, run in cell.runs.items():
            yield seed, f"{server}/#/runs/{quote(run.run_id, safe='')}"


def _facts(stored: StoredSuite) -> str:
    runs = sum(len(cell.runs) for cell in stored.cells)
    datasets = sorted({f"{cell.spec.dataset} ({cell.spec.split})" for cell in stored.cells})
    models = sorted({cell.spec.model for cell in stored.cells})
    seeds = seeds_text([len(cell.result.seeds) for cell in stored.cells])
    return (
        f"{counted(len(stored.cells), 'cell')}, {counted(runs, 'run')}, {seeds} a cell; "
        f"dataset {', '.join(datasets)}; model {', '.join(models)}."
    )


def _origins(stored: StoredSuite, lost: Sequence[str], out: Path | None) -> Iterable[str]:
    runs = [run for cell in stored.cells for run in cell.runs.values()]

    def values(tag: str) -> str:
        return ", ".join(sorted({run.tags[tag] for run in runs if tag in run.tags})) or "unknown"

    last = max((run.ended or run.started for run in runs), default=0)
    place = chosen_store(stored.place)
    again = command("fedbench", "report", stored.name, out=out, tracking_uri=place)
    look = command("fedbench", "ui", stored.name, tracking_uri=place)
    yield f"Store: {stored.place}, experiment {stored.name}."
    yield f"Last run ended {datetime.fromtimestamp(last / 1000, UTC):%Y-%m-%d %H:%M} UTC."
    yield (
        f"fedbench {values('fedbench.version')}, Python {values('fedbench.python')}, "
        f"PyTorch {values('fedbench.torch')}, processor {values('fedbench.processor')}, "
        f"machine {values('fedbench.machine')}; "
        f"commit {values('mlflow.source.git.commit')}."
    )
    yield f"Report by fedbench {__version__}. To update it: {again}"
    if stored.left_out:
        yield f"{stored.left_out} older runs of other code, data or device are left out."
    if lost:
        yield f"The files of {len(lost)} studies cannot be read from the store: runs {', '.join(lost)}."
    yield (
        "All accuracies are on the test set, which was not used to "
        f"choose anything. Single runs are in the MLflow UI: {look}"
    )
