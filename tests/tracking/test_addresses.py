"""Addresses made from paths: every path of a store is found again, and nothing is written elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from fedbench.tracking.mlflow.experiments import open_experiment
from fedbench.tracking.mlflow.registry import register_model
from fedbench.tracking.mlflow.store import default_tracking_uri, local_folder, open_store
from fedbench.tracking.mlflow.suites import find_suites
from fedbench.tuning.storage import default_storage, open_storage
from fedbench.util.errors import DataError, StoreError
from fedbench.util.files import sqlite_address, with_home

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
ODD = 'feature%2Flogin d?x=1#it\'s "é" ~&;:@日本'


@given(st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4))
def test_an_address_names_its_path(names: list[str]) -> None:
    path = Path("/", *names)
    assert str(path) == make_url(sqlite_address(path)).database
    assert path.parent == local_folder(sqlite_address(path))
    assert path.parent == local_folder(default_storage(sqlite_address(path)))


def test_a_store_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / ODD
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    open_store(default_tracking_uri())
    whole = sqlite_address(project / "mlruns" / "mlflow.db")
    client = open_store(whole)
    experiment = open_experiment(client, "tiny", {}, {"fedbench.schema": "2"}, lambda *_: None)
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "text", "confusion.csv")
    assert "text" == Path(client.download_artifacts(run, "confusion.csv")).read_text()
    with pytest.raises(StoreError, match="has no finished runs"):
        find_suites(f"{project}/mlruns#{'0' * 40}", "")
    with pytest.raises(StoreError, match="no model is stored"):
        register_model(client, "tiny", run, {})
    open_storage(default_storage(whole))
    assert [project] == list(tmp_path.iterdir())
    assert {"mlflow.db", "optuna.db", "artifacts"} == {each.name for each in (project / "mlruns").iterdir()}
    assert [project / "mlruns"] == list(project.iterdir())


def test_an_address_that_is_not_escaped_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a%2Fb").mkdir()
    with pytest.raises(StoreError, match=r"write \? as %3F"):
        open_store(f"sqlite:///{tmp_path}/d?x/mlflow.db")
    with pytest.raises(StoreError, match="write % as %25"):
        open_store(f"sqlite:///{tmp_path}/a%2Fb/mlflow.db")
    assert ["a%2Fb"] == [each.name for each in tmp_path.iterdir()]


def test_the_home_folder_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a%b?")
    assert "sqlite:////home/a%25b%3F/x%20y.db" == with_home("sqlite:///~/x%20y.db").replace(" ", "%20")
    assert "--out=/home/a%b?/x" == with_home("--out=~/x")


def test_a_path_that_no_address_can_express() -> None:
    with pytest.raises(DataError, match="must be UTF-8"):
        sqlite_address(Path("/home/\udcff/mlflow.db"))
