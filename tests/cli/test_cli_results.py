"""The commands on recorded results, from arguments to exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command import fedbench_here
from made_store import address, record
from made_suite import ONE_CELL, TEXT, made_suite
from process import complaint, fedbench

from fedbench.cli import runs
from fedbench.tracking.mlflow.store import open_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a suite has run."""
    folder: Path = tmp_path_factory.mktemp("results")
    record(made_suite(folder, TEXT.replace("[0, 1, 2]", "[0, 1]")), address(folder))
    return folder


def test_a_report_is_written_next_to_the_store_and_kept_in_it(folder: Path) -> None:
    """As a process: Matplotlib leaves nothing in the home folder, and no library writes to standard error."""
    done = fedbench("report", "made.yaml", folder=folder, HOME=str(folder / "home"))
    assert (0, "") == (done.code, done.err)
    assert done.out.startswith("mlruns/reports/made/report.html: open it in a browser.")
    assert "What is shown?" in (folder / "mlruns" / "reports" / "made" / "report.html").read_text()
    assert len(list((folder / "mlruns" / "artifacts").rglob("report.html"))) == 1
    assert not (folder / "home").exists()


def test_a_report_can_be_written_elsewhere_only(folder: Path) -> None:
    before = len(list((folder / "mlruns").rglob("*")))
    done = fedbench_here("report", "made", "--out", "here", "--no-log", "--json", folder=folder)
    assert 0 == done.code
    assert 6 == len(json.loads(done.out)["cells"])
    assert (folder / "here" / "report.html").exists()
    assert before == len(list((folder / "mlruns").rglob("*")))


def test_a_suite_is_answered_in_sentences_or_as_json(folder: Path) -> None:
    done = fedbench_here("answer", "made", folder=folder)
    assert (0, "") == (done.code, done.err)
    assert "What is shown?" == done.out.splitlines()[0]
    assert "grid: num_clients=3 is not shown to differ from 2: accuracy +10.0 points" in done.out
    assert "pair: init=independent and shared have the same accuracy in both seeds." in done.out
    found = json.loads(fedbench_here("answer", "made", "--measure", "loss", "--json", folder=folder).out)
    assert ["num_clients", "examples_per_client", "init"] == [each["axis"] for each in found["answers"]]
    assert {"loss"} == {each["measure"] for each in found["answers"]}


SMALL = """
name: small
question: Which?
seeds: [0, 1, 2]
defaults: {dataset: mnist-5k, model: 2nn, examples_per_client: 20, rounds: 1, local_epochs: 2, learning_rate: 0.1}
scenarios: [{name: a, num_clients: [2, 3]}]
"""


def test_an_answer_is_the_same_everywhere(tmp_path: Path) -> None:
    """Below the table of a run, by `answer`, in the JSON, on the report's page and in MLflow."""
    (tmp_path / "small.yaml").write_text(SMALL)

    def json_of(*arguments: str) -> list[dict[str, str]]:
        return json.loads(fedbench_here(*arguments, "--json", folder=tmp_path).out)["answers"]  # type: ignore[no-any-return]

    run = ("run", "small.yaml", "--workers", "1", "--no-models")
    fedbench_here(*run, "--seeds", "0,1", folder=tmp_path)
    done = fedbench_here(*run, folder=tmp_path)
    (found,) = answers = json_of("answer", "small")
    assert found["sentence"].startswith("num_clients=3 is not shown to differ from 2: accuracy ")
    assert ", 3 seeds);" in found["sentence"]
    assert found["sentence"] in done.out
    assert found["sentence"] in fedbench_here("answer", "small", folder=tmp_path).out
    assert answers == json_of(*run) == json_of("report", "small", "--out", "here", "--no-log")
    assert found["sentence"] in (tmp_path / "here/report.html").read_text()
    client = open_store(address(tmp_path))
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    assert experiment.tags["mlflow.note.content"].startswith(f"Which?\n\n**{found['sentence']}**\n\n| cell |")
    cells = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'cell'")
    said = {cell.data.tags["fedbench.answer.num_clients"] for cell in cells}
    assert {f"rank 1 to 2 of 2 by accuracy; not shown to differ from {other}" for other in (2, 3)} == said


def test_a_suites_file_says_what_is_compared_and_the_store_does_elsewhere(folder: Path, tmp_path: Path) -> None:
    text = (folder / "made.yaml").read_text()
    (tmp_path / "made.yaml").write_text(text + "contrast: {axes: [init], measure: loss}\n")
    place = ("--tracking-uri", address(folder))
    done = fedbench_here("answer", "made.yaml", *place, folder=tmp_path)
    assert "init=independent and shared have the same loss in both seeds." in done.out
    assert "num_clients" not in done.out
    assert "num_clients" in fedbench_here("answer", "made", *place, folder=tmp_path).out  # as it is recorded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("answer", "made", "--measure", "los"), "--measure: unknown measure 'los'; did you mean loss?"),
        (("answer", "wrong.yaml"), "wrong.yaml: contrast: unknown key 'axis'; did you mean axes?"),
        (("answer", "never-run"), "fedbench run never-run"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "wrong.yaml").write_text("name: made\ncontrast: {axis: [init]}\n")
    done = fedbench_here(*arguments, folder=folder)
    assert (2, "") == (done.code, done.out)
    assert message in done.err
    assert 1 == done.err.count("\n")


def test_a_comparison_is_printed_as_a_table_or_as_json(folder: Path) -> None:
    done = fedbench_here("compare", "mlruns", address(folder), folder=folder)
    assert (0, "") == (done.code, done.err)
    assert "6 equal." in done.out
    done = fedbench_here("compare", "mlruns", "mlruns", "--json", folder=folder)
    assert {"equal"} == {cell["change"] for cell in json.loads(done.out)["cells"]}


def test_runs_are_exported(folder: Path) -> None:
    done = fedbench_here("export", "made", "--out", "made.csv", folder=folder)
    assert (0, "made.csv: 20 rows\n", "") == (done.code, done.out, done.err)
    assert 21 == len((folder / "made.csv").read_text().splitlines())


def test_runs_are_listed_and_shown(folder: Path) -> None:
    done = fedbench_here("runs", "list", "made", folder=folder)
    assert 0 == done.code
    assert "12 runs." in done.out
    (first, *_) = json.loads(fedbench_here("runs", "list", "--json", folder=folder).out)["runs"]
    done = fedbench_here("runs", "show", first["run_id"][:8], folder=folder)
    assert 0 == done.code
    assert re.search(rf"run +{first['run_id']}", done.out)
    assert re.search(r"accuracy +0\.7", done.out)


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_deleting_asks_first_and_no_answer_is_no(tmp_path: Path, answer: str) -> None:
    record(made_suite(tmp_path, ONE_CELL), address(tmp_path))
    done = fedbench_here("runs", "delete", "made", "--cell", "a", folder=tmp_path, answer=answer)
    assert (1, "fedbench: nothing was deleted\n") == (done.code, done.err)
    assert "Delete these 2 runs?" in done.out
    done = fedbench_here("runs", "delete", "made", "--cell", "a", folder=tmp_path, answer="y\n")
    assert 0 == done.code
    assert "2 runs deleted. To restore one: MLFLOW_TRACKING_URI=sqlite:///mlruns/mlflow.db mlflow runs" in done.out
    assert "0 runs." in fedbench_here("runs", "list", "made", folder=tmp_path).out


def test_a_run_that_changes_while_the_command_asks_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(made_suite(tmp_path, ONE_CELL), address(tmp_path))
    first, second = json.loads(fedbench_here("runs", "list", "--json", folder=tmp_path).out)["runs"]

    def answer(_: str) -> bool:
        open_store(address(tmp_path)).update_run(first["run_id"], status="KILLED")
        return True

    monkeypatch.setattr(runs, "_confirm", answer)
    done = fedbench_here("runs", "delete", "made", "--status", "finished", folder=tmp_path)
    assert (0, "fedbench: 1 of them changed meanwhile and stay\n") == (done.code, done.err)
    left = json.loads(fedbench_here("runs", "list", "--json", folder=tmp_path).out)["runs"]
    assert [first["run_id"]] == [each["run_id"] for each in left]
    assert second["run_id"] != first["run_id"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runs", "delete", "made", "--yes", "--run", ""], "give at least 4 characters"),
        (["runs", "delete", "made", "--yes", "--run", "0"], "give at least 4 characters"),
        (["runs", "delete", "made", "--yes", "--cell", ""], "no such runs of made"),
        (["report", "nosuch"], "suite nosuch has no runs in sqlite:///mlruns/mlflow.db: fedbench run nosuch"),
        (["report", "nosuch.yaml"], "nosuch.yaml"),
        (["report", "made", "--out", "made.yaml"], "made.yaml/report.html cannot be written"),
        (["export", "made", "--out", "made.xlsx"], "it ends in .xlsx; choose .csv or .parquet"),
        (["compare", "mlruns", "nosuch"], "nosuch is no store, invocation or commit"),
        (["compare", "mlruns", "mlruns", "--metric", "nosuch"], "have no cell with nosuch in common"),
        (["compare", "mlruns", "mlruns", "--suite", "nosuch"], "has no finished runs of suite nosuch"),
        (["runs", "list", "--status", "lost"], "--status lost: choose from finished, failed"),
        (["runs", "show", "zzzzzz"], "no run begins with zzzzzz: see their ids with fedbench runs list"),
        (["runs", "delete", "made"], "say which runs: --run, --cell or --status"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], line: str) -> None:
    assert line in complaint(fedbench_here(*arguments, folder=folder))


@pytest.mark.parametrize("arguments", [["report", "made"], ["runs", "list"], ["compare", "a#b", "b"]])
def test_without_a_store_none_is_created(tmp_path: Path, arguments: list[str]) -> None:
    complaint(fedbench_here(*arguments, folder=tmp_path))
    assert [] == list(tmp_path.iterdir())
