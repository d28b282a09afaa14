"""`fedbench tune` from arguments to exit codes: answers and their JSON, interruption, more trials, bad input."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import optuna
import pytest
from command import fedbench_here
from empty_store import put_empty_store
from made_study import made_result, without_answer
from mlflow import MlflowClient

from fedbench.cli.tune import _register
from fedbench.measures import Verdict
from fedbench.tuning.results import Candidate, TuningResult
from fedbench.tuning.study import Tuning

PACKAGE = Path(__file__).parents[2]
SUITE = """
name: tiny
question: Does it search?
seeds: [0, 1]
defaults: {examples_per_client: 50, rounds: 2, local_epochs: 1, learning_rate: 0.01}
scenarios:
  - {name: grid, num_clients: [2, 3]}
tune:
  set: {num_clients: 2}
  space:
    learning_rate: {low: 0.01, high: 0.5}
  seeds: [0, 1]
  fresh_seeds: [10, 11, 12]
  validation: 0.05
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fedbench", "tune", *arguments]


def environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return inherited | {"PYTHONPATH": str(PACKAGE), "HOME": str(folder / "home"), "COLUMNS": "80"}


def tune(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error; the home folder is one of its own."""
    done = fedbench_here("tune", *arguments, folder=folder, columns=80)
    return done.code, done.out, done.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a suite and an empty store."""
    (tmp_path / "tiny.yaml").write_text(SUITE)
    put_empty_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    return tmp_path


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A folder in which a study has been made, and what was printed of it."""
    folder: Path = tmp_path_factory.mktemp("tuned")
    (folder / "tiny.yaml").write_text(SUITE)
    options = ("--trials", "6", "--save", "best.yaml", "--register", "tiny-model", "--json")
    code, out, err = tune("tiny.yaml", *options, folder=folder)
    assert 0 == code, err
    return folder, json.loads(out)


def test_it_ends_with_an_answer_on_fresh_seeds(tuned: tuple[Path, dict[str, object]]) -> None:
    _, found = tuned
    assert ("tiny", "grid", 6, "better") == tuple(found[key] for key in ("suite", "scenario", "trials", "verdict"))
    for name in ("best", "default"):
        candidate = found[name]
        assert isinstance(candidate, dict)
        assert 3 == len(candidate["test"]["values"])
        assert 0 < candidate["validation"] < 1
    assert {"learning_rate": 0.01} == found["default"]["params"]  # type: ignore[index]
    assert 0 < found["gain"]["low"] <= found["gain"]["mean"] <= found["gain"]["high"]  # type: ignore[index]


def test_the_gain_is_the_difference_of_the_tests(tuned: tuple[Path, dict[str, object]]) -> None:
    found: dict[str, dict[str, dict[str, float]]] = tuned[1]  # type: ignore[assignment]
    difference = found["best"]["test"]["mean"] - found["default"]["test"]["mean"]
    assert pytest.approx(difference) == found["gain"]["mean"]


@pytest.mark.slow
def test_the_tests_are_runs_of_the_suite_with_the_saved_values(tuned: tuple[Path, dict[str, object]]) -> None:
    """A run by `fedbench run` of the saved file, on a fresh seed, has the accuracy that the study reports."""
    folder, found = tuned
    done = fedbench_here("run", "best.yaml", "--seeds", "11", "--json", folder=folder)
    (cell,) = json.loads(done.out)["cells"]
    assert [found["best"]["test"]["values"][1]] == cell["accuracy"]["values"]  # type: ignore[index]


def test_all_of_it_is_in_mlflow(tuned: tuple[Path, dict[str, object]]) -> None:
    folder, _ = tuned
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tiny.tuning")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    kinds = [run.data.tags["fedbench.kind"] for run in runs]
    assert (1, 6, 6, 2) == tuple(kinds.count(kind) for kind in ("study", "trial", "run", "cell"))
    assert {"FINISHED"} == {run.info.status for run in runs}
    assert 1 == int(client.get_model_version_by_alias("tiny-model", "best").version)
    study = next(run for run in runs if run.data.tags["fedbench.kind"] == "study")
    assert {"study.json", "trials.csv"} == {each.path for each in client.list_artifacts(study.info.run_id)}


@pytest.mark.slow
def test_the_same_command_computes_nothing_again_and_more_trials_are_added(
    tuned: tuple[Path, dict[str, object]],
) -> None:
    folder, found = tuned
    code, out, _ = tune("tiny.yaml", "--trials", "6", "--json", folder=folder)
    again = json.loads(out)
    times = {"seconds"}
    assert 0 == code
    assert {key: value for key, value in found.items() if key not in times} == {
        key: value for key, value in again.items() if key not in times
    }
    code, out, _ = tune("tiny.yaml", "--trials", "7", "--json", folder=folder)
    assert (0, 7) == (code, json.loads(out)["trials"])


@pytest.mark.slow
def test_a_new_best_is_tested_on_new_seeds_and_each_answer_counts_once(folder: Path) -> None:
    text = SUITE.replace("  fresh_seeds: [10, 11, 12]\n", "")
    (folder / "tiny.yaml").write_text(text.replace("local_epochs: 1, learning_rate: 0.01", "learning_rate: 0.03"))
    found = []
    for trials in ("1", "1", "6", "6"):
        code, out, err = tune("tiny.yaml", "--trials", trials, "--json", folder=folder)
        assert 0 == code, err
        found.append(json.loads(out))
    assert [0, 0] == [each["best"]["trial"] for each in found[:2]]
    assert 0 < found[2]["best"]["trial"]
    first, next_five = [2, 3, 4, 5, 6], [7, 8, 9, 10, 11]
    assert [first, first, next_five, next_five] == [each["fresh_seeds"] for each in found]
    assert [1, 1, 2, 2] == [each["answers"] for each in found]
    assert found[2]["best"]["test"] == found[3]["best"]["test"]
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tiny.tuning")
    assert experiment is not None
    (study,) = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'study'")
    assert (2, "7,8,9,10,11") == (study.data.metrics["answers"], study.data.tags["fedbench.fresh_seeds"])
    assert 15 == len(client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'run'"))


@pytest.mark.slow
def test_for_people_there_is_a_table_and_what_to_do_next(tuned: tuple[Path, dict[str, object]]) -> None:
    code, out, err = tune("tiny.yaml", "--trials", "6", folder=tuned[0])
    assert 0 == code
    assert "gain on the test set: +" in out
    assert "fedbench ui tiny.tuning" in out
    assert max(map(len, out.splitlines())) <= 120
    assert "" == err


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume_and_the_study_does_not_look_alive(folder: Path) -> None:
    arguments = command("tiny.yaml", "--trials", "500")
    with subprocess.Popen(arguments, cwd=folder, env=environment(folder), stderr=subprocess.PIPE) as process:
        wait_for_trials(folder, 2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert 130 == process.returncode
    assert "of 500 trials have ended; the same command resumes" in err.decode()
    assert 1 == len(err.splitlines())
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tiny.tuning")
    assert experiment is not None
    (study,) = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'study'")
    assert "KILLED" == study.info.status


def wait_for_trials(folder: Path, count: int) -> None:
    """Until so many trials have ended."""
    for _ in range(600):
        time.sleep(0.1)
        path = folder / "mlruns" / "optuna.db"
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                try:
                    found = connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
                except sqlite3.OperationalError:  # its tables are being made
                    continue
            if found[0] >= count:
                return
    pytest.fail("no trials ended")


@pytest.mark.slow
def test_where_every_trial_collapses_there_is_a_verdict_and_no_answer(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(
        SUITE.replace("low: 0.01, high: 0.5", "low: 1.0e-9, high: 1.0e-8, log: true").replace(
            "learning_rate: 0.01}", "learning_rate: 1.0e-9}"
        )
    )
    code, out, err = tune("tiny.yaml", "--trials", "2", "--json", folder=folder)
    found = json.loads(out)
    assert (1, "no answer", None) == (code, found["verdict"], found["best"]), err
    assert "of 2 trials 2 collapsed: widen the space" in found["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny.yaml", "--scenario", "grd"), "--scenario: unknown scenario 'grd'; did you mean grid?"),
        (("tiny.yaml", "--objective", "f1"), "--objective"),
        (("tiny.yaml", "--objective", "rounds_to_target"), "target"),
        (("tiny.yaml", "--trials", "0"), "--trials"),
        (("tiny.yaml", "--budget", "time"), "--budget"),
        (("tiny.yaml", "--timeout", "-1"), "timeout"),
        (("tiny.yaml", "--set", "num_clients=90"), "needs 90 x 50 = 4500 training examples"),
        (("tiny.yaml", "--set", "learning_rate=0.9"), "leaves out the scenario's own 0.9"),
        (("tiny.yaml", "--save", "tiny.yaml"), "the file is there already"),
        (("tiny.yaml", "--save", "/proc/best.yaml"), "cannot write /proc/best.yaml"),
        (("tiny.yaml", "--register", ""), "--register '': a model's name"),
        (("tiny.yaml", "--register", "a/b"), "--register 'a/b': a model's name"),
        (("tiny.yaml", "--storage", "sqlite://"), "names no file"),
        (
            ("tiny.yaml", "--storage", "sqlite:///tiny.yaml"),
            "storage sqlite:///tiny.yaml failed (file is not a database)",
        ),
        (("tiny.yaml", "--storage", "nonsense"), "storage nonsense is not the address of a store"),
        (("tiny.yaml", "--storage", "postgresql://user:secret@127.0.0.1:1/x"), "does not answer"),
        (("tiny.yaml", "--storage", "redis://127.0.0.1"), "storage redis://127.0.0.1"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = tune(*arguments, folder=folder)
    assert (2, "") == (code, out)
    assert message in err
    assert 1 == len(err.splitlines())
    assert "secret" not in err


def test_mlflows_own_database_is_not_taken_for_optunas(folder: Path) -> None:
    code, _, err = tune("tiny.yaml", "--storage", "sqlite:///mlruns/mlflow.db", folder=folder)
    assert 2 == code
    assert "another program's database: name another with --storage" in err


@pytest.mark.slow
def test_a_storage_of_another_version_of_optuna_is_refused(folder: Path) -> None:
    optuna.storages.RDBStorage(f"sqlite:///{folder}/old.db").engine.dispose()
    with closing(sqlite3.connect(folder / "old.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
        connection.commit()
    code, _, err = tune("tiny.yaml", "--storage", "sqlite:///old.db", folder=folder)
    assert 2 == code
    assert "was made by another version of Optuna" in err
    assert 1 == len(err.splitlines())


def test_a_target_that_naming_one_class_reaches_is_refused(folder: Path) -> None:
    code, _, err = tune("tiny.yaml", "--objective", "rounds_to_target", "--target", "0.05", folder=folder)
    assert 2 == code
    assert "always predicting the largest class reaches 10.0%" in err


@pytest.mark.slow
def test_the_trials_of_a_study_whose_storage_was_deleted_are_not_mixed_with_those_of_the_next(folder: Path) -> None:
    assert 0 == tune("tiny.yaml", "--trials", "3", folder=folder)[0]
    (folder / "mlruns" / "optuna.db").unlink()
    assert 0 == tune("tiny.yaml", "--trials", "2", folder=folder)[0]
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tiny.tuning")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'trial'")
    counts = Counter(run.data.tags["fedbench.study"] for run in runs)
    assert [2, 3] == sorted(counts.values())


def collapsed(candidate: Candidate | None) -> Candidate:
    assert candidate is not None
    return replace(candidate, verdict=Verdict.COLLAPSED, reason="1 of 3 seeds: its balanced accuracy is at chance")


class Registry:
    """Stands in for a study's run; it has registered `names`."""

    def __init__(self) -> None:
        self.study_run, self.names = self, list[str]()

    def register(self, name: str, _: object) -> str:
        self.names.append(name)
        return "done"


@pytest.mark.parametrize(
    ("result", "said", "names"),
    [
        (made_result(), "done", ["net"]),
        (without_answer(), "No model is registered as net: the best is not shown to be better than the default.", []),
        (
            replace(made_result(), best=collapsed(made_result().best)),
            "No model is registered as net: the best collapsed in 1 of 3 fresh seeds.",
            [],
        ),
    ],
)
def test_a_model_that_collapsed_or_is_no_better_is_not_registered(
    result: TuningResult, said: str, names: list[str]
) -> None:
    registry = Registry()
    assert said == _register(cast("Tuning", registry), result, "net")
    assert names == registry.names
