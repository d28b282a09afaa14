"""Which cells of an experiment are compared, and what that says: its description, and tags of it and of cells' runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from fedbench.suites.contrast import ContrastSpec
from fedbench.tracking.mlflow.cells import PARENT
from fedbench.tracking.mlflow.describe import describe_suite
from fedbench.tracking.mlflow.store import experiment_of, open_store
from fedbench.tracking.mlflow.views import MAX_TAG
from fedbench.tracking.records import StoredSuite

CONTRAST = "fedbench.contrast"  # the key of the suite's file, as JSON
ANSWER = "fedbench.answer."  # with the axis


def recorded_contrast(tags: Mapping[str, str]) -> ContrastSpec:
    """Which cells of an experiment are compared, by its tags; the default if they do not say it as fedbench does."""
    try:
        return ContrastSpec.model_validate_json(tags.get(CONTRAST, "{}"))
    except ValidationError:
        return ContrastSpec()


def keep_answers(
    uri: str, stored: StoredSuite, sentences: Sequence[str], answers: Mapping[str, Mapping[str, str]]
) -> None:
    """Write the sentences into the experiment's description, and tag the cells' own runs with text by axis.

    `answers` are by the cells' labels. What an earlier comparison said and this one does not is removed.

    Raises `StoreError` if the store cannot be written.
    """
    client = open_store(uri)
    parents = {next(iter(cell.runs.values())).tags.get(PARENT): answers.get(cell.label, {}) for cell in stored.cells}
    experiment = experiment_of(client, stored.name)
    for cell in describe_suite(client, experiment.experiment_id, stored.question, sentences):
        wanted = {f"{ANSWER}{axis}": said[:MAX_TAG] for axis, said in parents.get(cell.info.run_id, {}).items()}
        tags = {key: said for key, said in wanted.items() if cell.data.tags.get(key) != said}
        client.log_all(cell.info.run_id, tags=tags)
        for key in cell.data.tags:
            if key.startswith(ANSWER) and key not in wanted:
                client.delete_tag(cell.info.run_id, key)
