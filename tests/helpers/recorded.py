"""What two stores hold of a suite, compared: nothing lost, doubled or different."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOST, DOUBLED, DIFFERENT, RUNNING, CELL = "lost", "doubled", "different", "left running", "cell is not right"
PARTS = ("metrics", "params", "inputs", "confusion", "model")


@dataclass
class Record:
    """What is compared of a seed's run: everything but times, ids and moments."""

    metrics: dict[str, list[tuple[int, str]]]
    params: dict[str, str]
    inputs: list[tuple[str, str]]
    confusion: str
    model: str


@dataclass
class Recorded:
    """What a store holds of a suite."""

    runs: dict[str, list[Record]]  # by fingerprint
    cells: dict[str, list[dict[str, float]]]  # of each the metrics of its own runs, without those of time
    kinds: Counter[str]
    running: list[str]


def recorded(uri: str, suite: str) -> Recorded:
    """Read a suite's experiment by MLflow's own client."""
    from mlflow import MlflowClient

    import fedbench.tracking  # noqa: F401 - it sets MLflow up

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(suite)
    assert experiment is not None, f"{suite} has no experiment in {uri}"
    ids = [experiment.experiment_id]
    models: dict[str, list[Any]] = {}
    for model in client.search_logged_models(ids, max_results=1000):
        models.setdefault(str(model.source_run_id), []).append(model)
    found = Recorded({}, {}, Counter(), [])
    for run in client.search_runs(ids, max_results=10_000):
        tags, run_id = run.data.tags, run.info.run_id
        kind = tags.get("fedbench.kind", "none")
        found.kinds[kind] += 1
        if run.info.status == "RUNNING":
            found.running.append(f"{kind} {run_id}")
        elif kind == "cell":
            metrics = {name: value for name, value in run.data.metrics.items() if "_seconds/" not in name}
            found.cells.setdefault(tags["fedbench.cell"], []).append(metrics | {run.info.status: 0.0})
        elif kind == "run" and run.info.status == "FINISHED":
            record = _record(client, uri, run, models.get(run_id, []))
            found.runs.setdefault(tags["fedbench.fingerprint"], []).append(record)
    return found


def _record(client: Any, uri: str, run: Any, models: list[Any]) -> Record:
    from mlflow.artifacts import download_artifacts

    run_id = run.info.run_id
    metrics = {
        name: [
            (each.step, "" if name.endswith("_seconds") else repr(each.value))
            for each in client.get_metric_history(run_id, name)
        ]
        for name in run.data.metrics
    }
    with tempfile.TemporaryDirectory() as folder:
        path = download_artifacts(run_id=run_id, artifact_path="confusion.csv", dst_path=folder, tracking_uri=uri)
        confusion = Path(path).read_text()
        states = [_digest(each, uri, folder) for each in models]
    inputs = [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs]
    return Record(metrics, run.data.params, inputs, confusion, " ".join(states))


def _digest(model: Any, uri: str, folder: str) -> str:
    """SHA-256 over a stored model's parameters and buffers."""
    import mlflow.pytorch
    from mlflow.artifacts import download_artifacts

    path = download_artifacts(
        artifact_uri=model.artifact_location, dst_path=f"{folder}/{model.model_id}", tracking_uri=uri
    )
    digest = hashlib.sha256()
    for name, tensor in sorted(mlflow.pytorch.load_model(path).state_dict().items()):
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def violations(actual: Recorded, expected: Recorded) -> Iterator[tuple[str, str]]:
    """What is not as in the other store: its kind, and what it is."""
    for fingerprint in expected.runs.keys() | actual.runs.keys():
        runs, name = actual.runs.get(fingerprint, []), fingerprint[:8]
        if len(runs) != 1:
            yield LOST if not runs else DOUBLED, f"{len(runs)} finished runs of {name}"
            continue
        if fingerprint not in expected.runs:
            yield DIFFERENT, f"{name} is no run of the other store"
            continue
        one, other = expected.runs[fingerprint][0], runs[0]
        for metric, history in other.metrics.items():
            if len({step for step, _ in history}) < len(history):
                yield DOUBLED, f"steps of {metric} of {name}"
        if len(other.model.split()) != 1:
            yield DOUBLED, f"{len(other.model.split())} models of {name}"
        yield from ((DIFFERENT, f"{part} of {name}") for part in PARTS if getattr(one, part) != getattr(other, part))
    yield from ((RUNNING, run) for run in actual.running)
    for cell in expected.cells.keys() | actual.cells.keys():
        if actual.cells.get(cell) != expected.cells.get(cell):
            yield CELL, f"{len(actual.cells.get(cell, []))} runs of {cell}"
