"""Requests that are made twice, or by two processes at once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from empty_store import put_empty_store
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.orm import Session

from fedbench.tracking.mlflow.repeated import set_experiment_tags


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    return MlflowClient(put_empty_store(f"sqlite:///{tmp_path}/mlflow.db"))


def test_an_experiments_tag_that_another_process_makes_at_the_same_moment_is_set(
    client: MlflowClient, tmp_path: Path
) -> None:
    experiment = client.get_experiment(client.create_experiment("tiny"))

    def be_quicker(*_: object) -> None:
        event.remove(Session, "before_flush", be_quicker)
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other, other:
            row = ("first", "theirs", experiment.experiment_id)
            other.execute('INSERT INTO experiment_tags ("key", value, experiment_id) VALUES (?, ?, ?)', row)

    event.listen(Session, "before_flush", be_quicker)
    set_experiment_tags(client, experiment, {"first": "ours", "second": "ours"})
    assert {"first": "ours", "second": "ours"} == client.get_experiment(experiment.experiment_id).tags


def test_what_is_already_so_is_not_asked_for(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = client.get_experiment(client.create_experiment("tiny", tags={"first": "ours"}))
    monkeypatch.delattr(MlflowClient, "set_experiment_tag")
    set_experiment_tags(client, experiment, {"first": "ours"})


def test_another_error_is_raised(client: MlflowClient) -> None:
    experiment = client.get_experiment(client.create_experiment("tiny", tags={"first": "theirs"}))
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        set_experiment_tags(client, experiment, {"first": "ours"})
