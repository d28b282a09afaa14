"""What people read in MLflow: the descriptions of a cell's run and of a suite's experiment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from textwrap import shorten
from typing import TYPE_CHECKING

from fedbench.measures import Verdict
from fedbench.tracking.mlflow.reading import infinite, search_runs
from fedbench.tracking.mlflow.views import MAX_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOTE = "mlflow.note.content"
MAX_ANSWER = 600  # characters
HOW_TO_READ = """

**How to read it.** Runs with the tag `fedbench.kind` = `run` are one seed of a cell each; group them by the tag
`fedbench.cell` to see a cell's mean and range. Runs with `fedbench.kind` = `cell` hold each cell's mean, standard
deviation and 95 % interval over its seeds. `fedbench.verdict` = `collapsed` means: the model predicts one class only,
or its balanced accuracy is at chance; `below majority`: it is no better than predicting the largest class
(`majority_rate`). `fedbench report` puts it all on one page.
"""


def cell_note(found: Mapping[str, Mapping[int, float]], num_seeds: int, verdict: Verdict, reason: str | None) -> str:
    """What a cell's numbers say; `found` are its metrics as `fedbench.tracking.mlflow.cells.summary` gives them."""
    last = {key: list(series.values())[-1] for key, series in found.items()}
    over = f"mean ± standard deviation over {num_seeds} seeds" if num_seeds > 1 else "one seed, so no spread"
    sentences = [f"**Accuracy {_percent(last, 'accuracy')}** on the test set, {over}{_interval(last)}."]
    balanced, loss = _percent(last, "balanced_accuracy"), _spread(last, "loss", 1, 3)
    majority = 100 * last.get("majority_rate/mean", math.nan)
    sentences.append(
        f"Balanced accuracy {balanced}, loss {loss}; always predicting the largest class gives {majority:.1f} %."
    )
    if math.isfinite(gain := last.get("averaging_gain/mean", math.nan)):
        than = "better" if gain >= 0 else "worse"
        sentences.append(
            f"The average is {abs(100 * gain):.1f} points {than} than the mean of the clients' own models before it."
        )
    sentences.append(f"Verdict: {verdict}{f' ({reason})' if reason else ''}.")
    return " ".join(sentences)


def _interval(last: Mapping[str, float]) -> str:
    low, high = (last.get(f"accuracy/ci95_{end}", math.nan) for end in ("low", "high"))
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"; 95 % interval of the mean {100 * max(low, 0):.1f} to {100 * min(high, 1):.1f} %"


def _percent(last: Mapping[str, float], metric: str) -> str:
    return f"{_spread(last, metric, 100, 1)} %"


def _spread(last: Mapping[str, float], metric: str, scale: float, digits: int) -> str:
    """``88.0 ± 1.1``."""
    mean, std = last.get(f"{metric}/mean", math.nan), last.get(f"{metric}/std")
    if not math.isfinite(mean):
        return "not finite"
    return f"{scale * mean:.{digits}f}" + (f" ± {scale * std:.{digits}f}" if std is not None else "")


def describe_suite(
    client: MlflowClient, experiment_id: str, question: str, answers: Sequence[str] = ()
) -> Sequence[Run]:
    """Write question, answers and a table of the cells as they are now into the experiment's description.

    Returns the cells' own runs.
    """
    cells = search_runs(client, experiment_id, "tags.`fedbench.kind` = 'cell' and status = 'FINISHED'")
    client.set_experiment_tag(experiment_id, NOTE, suite_note(question, cells, answers))
    return cells


def suite_note(question: str, cells: Sequence[Run], answers: Sequence[str] = ()) -> str:
    """The description of an experiment with the summaries of these cells, as many as there is room for."""
    question += "".join(f"\n\n**{shorten(answer, MAX_ANSWER)}**" for answer in answers)
    rows = [_row(cell) for cell in sorted(cells, key=lambda cell: _natural(_label(cell)))]
    if not rows:
        return question + HOW_TO_READ
    head = "\n\n| cell | accuracy (%) | balanced (%) | seeds | verdict |\n| --- | --- | --- | --- | --- |\n"
    counts = [_num_seeds(cell) for cell in cells]
    unequal = f" Cells have {min(counts)} to {max(counts)} seeds: the mean of fewer is less certain."
    unequal = unequal if len(set(counts)) > 1 else ""
    about = f"\nOn the test set, mean ± standard deviation over the seeds of each cell.{unequal}"
    room = MAX_TAG - len(question + head + about + HOW_TO_READ) - 100
    kept = [row for row, length in zip(rows, accumulate(map(len, rows)), strict=True) if length <= room]
    more = f"\n{len(rows) - len(kept)} more cells are in the view of the cells.\n" if len(kept) < len(rows) else ""
    return f"{question}{head}{''.join(kept)}{more}{about}{HOW_TO_READ}"


def _row(cell: Run) -> str:
    tags, last = cell.data.tags, {key: infinite(value) for key, value in cell.data.metrics.items()}
    label = _label(cell).replace("|", "\\|")
    measures = (_spread(last, name, 100, 1) for name in ("accuracy", "balanced_accuracy"))
    return f"| {label} | {' | '.join(measures)} | {_num_seeds(cell)} | {tags.get('fedbench.verdict', '')} |\n"


def _label(cell: Run) -> str:
    return str(cell.data.tags.get("fedbench.cell", cell.info.run_name))


def _num_seeds(cell: Run) -> int:
    return len(cell.data.tags.get("fedbench.seeds", "").split(","))


def _natural(label: str) -> list[tuple[bool, float, str]]:
    """Numbers by size, and text by its letters."""
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return [(bool(index % 2), float(part) if index % 2 else 0.0, part) for index, part in enumerate(parts)]
