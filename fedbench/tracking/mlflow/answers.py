"""Which cells of an experiment are compared, and what that says of each: tags of the experiment and of cells' runs."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import RunTag
from pydantic import ValidationError

from fedbench.suites.contrast import ContrastSpec
from fedbench.tracking.mlflow.store import open_store, store_errors
from fedbench.tracking.records import StoredSuite

CONTRAST = "fedbench.contrast"  # the key of the suite's file, as JSON
ANSWER = "fedbench.answer."  # with the axis
PARENT = "mlflow.parentRunId"
MAX_TAG = 5_000  # characters, MLflow's limit


def recorded_contrast(tags: Mapping[str, str]) -> ContrastSpec:
    """Which cells of an experiment are compared, by its tags; the default if they do not say it as fedbench does."""
    try:
        return ContrastSpec.model_validate_json(tags.get(CONTRAST, "{}"))
    except ValidationError:
        return ContrastSpec()


def tag_cells(uri: str, stored: StoredSuite, answers: Mapping[str, Mapping[str, str]]) -> None:
    """Tag the cells' own runs with text by axis, and with nothing else; `answers` are by the cells' labels.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    client = open_store(uri)
    with store_errors(uri):
        for cell in stored.cells:
            parent = next(iter(cell.runs.values())).tags.get(PARENT)
            if parent is None:
                continue
            texts = {f"{ANSWER}{axis}": text[:MAX_TAG] for axis, text in answers.get(cell.label, {}).items()}
            before = client.get_run(parent).data.tags
            for key in [key for key in before if key.startswith(ANSWER) and key not in texts]:
                client.delete_tag(parent, key)
            if changed := [RunTag(key, text) for key, text in texts.items() if before.get(key) != text]:
                client.log_batch(parent, tags=changed)
