"""Results read back from a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from empty_store import put_empty_store
from made_store import address, record
from made_suite import ONE_CELL, made_suite, metrics_of

from fedbench.measures import Verdict
from fedbench.suites.schema import RunSpec
from fedbench.tracking.mlflow.report import log_report
from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.suites import find_suites, read_suite
from fedbench.tracking.records import StoredSuite
from fedbench.util.errors import StoreError


@pytest.fixture(scope="module")
def stored(made: str) -> StoredSuite:
    return read_suite("made", made)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A store of this test's own, with one cell of two seeds."""
    record(made_suite(tmp_path, ONE_CELL), address(tmp_path))
    return address(tmp_path)


def test_a_suite_is_read_with_its_question_seeds_and_ordered_cells(stored: StoredSuite) -> None:
    assert ("made", "What is shown?", (0, 1, 2), 0) == (stored.name, stored.question, stored.seeds, stored.left_out)
    assert [
        "grid num_clients=2 examples_per_client=20",
        "grid num_clients=2 examples_per_client=50",
        "grid num_clients=3 examples_per_client=20",
        "grid num_clients=3 examples_per_client=50",
        "pair init=shared",
        "pair init=independent",
    ] == [cell.label for cell in stored.cells]


def test_fields_have_their_types_again(stored: StoredSuite) -> None:
    spec = stored.cells[0].spec
    assert (2, 20, 0.01, "mnist-5k", None, False) == (
        spec.num_clients,
        spec.examples_per_client,
        spec.learning_rate,
        spec.dataset,
        spec.require_accuracy,
        spec.interpolation,
    )


def test_numbers_are_read_over_the_seeds(stored: StoredSuite) -> None:
    accuracy = stored.cells[2].final("accuracy")
    assert accuracy is not None
    assert pytest.approx((0.80, 0.81, 0.82)) == accuracy.values
    assert stored.cells[2].final("nonsense") is None
    curve = stored.curve(stored.cells[0], "accuracy")
    assert pytest.approx({1: 0.61, 2: 0.71}) == {step: spread.mean for step, spread in curve.items()}
    assert {} == stored.curve(stored.cells[0], "nonsense")
    line = stored.curve(stored.cells[4], "interpolation/loss")
    assert pytest.approx({-20: 2.0, 50: 1.1, 120: 3.0}) == {step: spread.mean for step, spread in line.items()}


def test_artifacts_are_read_and_a_missing_one_is_none(stored: StoredSuite) -> None:
    run = stored.cells[0].runs[0]
    assert "true class,cat,dog\ncat,3,1\ndog,0,4\n" == stored.source.text(run.run_id, "confusion.csv")
    assert stored.source.text(run.run_id, "partition.csv") is None


def test_a_suite_that_never_ran_and_an_empty_store_are_one_line(made: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^suite nosuch has no runs in .*: fedbench run nosuch"):
        read_suite("nosuch", made)
    client = open_store(put_empty_store(address(tmp_path)))
    client.create_experiment("made", tags={"fedbench.schema": "2"})
    with pytest.raises(StoreError, match=r"^suite made has no finished runs in .*: fedbench run made"):
        read_suite("made", address(tmp_path))


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        ({}, "was not made by fedbench"),
        ({"fedbench.schema": "9"}, "upgrade"),
        ({"fedbench.schema": "2", "deleted": "yes"}, "was deleted: restore it"),
    ],
)
def test_an_experiment_that_cannot_be_read_is_one_line(tmp_path: Path, tags: dict[str, str], line: str) -> None:
    client = open_store(put_empty_store(address(tmp_path)))
    experiment = client.create_experiment("made", tags=tags)
    if "deleted" in tags:
        client.delete_experiment(experiment)
    with pytest.raises(StoreError, match=line):
        read_suite("made", address(tmp_path))


def test_runs_that_somebody_edited_are_left_out(uri: str) -> None:
    client = open_store(uri)
    run_id = read_suite("made", uri).cells[0].runs[0].run_id
    tags = client.get_run(run_id).data.tags
    for tag in ("fedbench.scenario", "fedbench.cell", "fedbench.seed", "fedbench.verdict"):
        client.delete_tag(run_id, tag)
        (cell,) = read_suite("made", uri).cells
        assert [1] == list(cell.runs), tag
        client.set_tag(run_id, tag, tags[tag])
    client.set_tag(run_id, "fedbench.seed", "first")
    assert (1,) == read_suite("made", uri).seeds


def test_cells_with_one_label_but_other_fields_get_longer_labels(tmp_path: Path) -> None:
    """As after a suite's file was edited."""
    for rate in ("0.1", "0.2"):
        record(made_suite(tmp_path, ONE_CELL.replace("rounds: 2", f"learning_rate: {rate}")), address(tmp_path))
    labels = [cell.label for cell in read_suite("made", address(tmp_path)).cells]
    assert ["a learning_rate=0.1", "a learning_rate=0.2"] == labels


def better(run: RunSpec, step: int) -> dict[str, float]:
    return metrics_of(run, step) | {"accuracy": 0.9}


def test_the_newest_run_of_a_seed_counts_unless_another_is_named(tmp_path: Path, uri: str) -> None:
    client = open_store(uri)
    before = read_suite("made", uri).cells[0].runs
    for run in before.values():
        client.set_tag(run.run_id, "mlflow.source.git.commit", "a" * 40)
    record(made_suite(tmp_path, ONE_CELL), uri, better, fresh=True)
    (cell,) = read_suite("made", uri).cells
    assert [0.9, 0.9] == [run.metrics["accuracy"] for run in cell.runs.values()]
    for which in (before[0].tags["fedbench.invocation"], "a" * 12, f"{uri}#{'a' * 12}"):
        ((cell,),) = (each.cells for each in find_suites(which, uri))
        assert cell.runs.keys() == before.keys()
        assert {run.run_id for run in before.values()} == {run.run_id for run in cell.runs.values()}


def test_verdicts_are_read_with_their_reasons_and_a_failed_seed_has_no_numbers(tmp_path: Path) -> None:
    def verdict(run: RunSpec) -> tuple[Verdict, str | None]:
        if run.scenario == "b":
            return Verdict.COLLAPSED, "predicts class 0 for every image"
        return (Verdict.FAILED, "too low") if run.seed else (Verdict.OK, None)

    text = ONE_CELL.replace("rounds: 2}", "rounds: 1}, {name: b, rounds: 1}")
    record(made_suite(tmp_path, text), address(tmp_path), verdict=verdict)
    failed, collapsed = (cell.result for cell in read_suite("made", address(tmp_path)).cells)
    assert (Verdict.FAILED, "1 of 2 seeds: too low", (0,)) == (failed.verdict, failed.reason, failed.seeds)
    assert (Verdict.COLLAPSED, (0, 1)) == (collapsed.verdict, collapsed.seeds)


def test_a_folder_and_a_file_name_a_store(made: str) -> None:
    file = Path(made.removeprefix("sqlite:///"))
    for text in (str(file), str(file.parent), str(file.parent.parent)):
        assert "made" == find_suites(text, "sqlite:////nowhere/mlflow.db")[0].name


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nonsense", "nonsense is no store, invocation or commit"),
        ("--upload-pack=x", "is no store, invocation or commit"),
        ("0123456789abcdef", "has no finished runs in"),
        ("20200101T000000Z-abcd", "has no finished runs in"),
        ("/", "has no mlflow.db"),
        ("postgresql://me:secret@127.0.0.1:1/runs", r"^(?!.*secret)"),
    ],
)
def test_a_name_of_nothing_is_one_line_that_says_what_to_do(made: str, text: str, line: str) -> None:
    with pytest.raises(StoreError, match=line) as error:
        find_suites(text, made)
    assert "\n" not in str(error.value)


def test_a_report_is_kept_in_one_run_of_the_experiment(tmp_path: Path, uri: str) -> None:
    page = tmp_path / "report.html"
    page.write_text("")
    before = read_suite("made", uri)
    for _ in range(2):
        log_report(uri, "made", page)
    client = open_store(uri)
    experiment = client.get_experiment_by_name("made")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'report'")
    assert "FINISHED" == run.info.status
    assert ["report.html"] == [each.path for each in client.list_artifacts(run.info.run_id)]
    assert before.cells == read_suite("made", uri).cells  # it is no run of a cell
