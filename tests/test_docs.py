"""The pages in docs/ say what is true: links, commands, defaults, names in MLflow, code and its output."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from empty_store import put_empty_store

from fedbench.suites.schema import CellSpec

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without the table's own head."""
    _, found, rest = page.read_text().partition(f"\n{heading}\n")
    assert found, f"{page.name} has no heading {heading}"
    rows = re.search(r"(^\|.*\n)+", rest, re.MULTILINE)
    assert rows
    return [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows[0].splitlines()[2:]]


def first_cells(page: Path, heading: str) -> set[str]:
    return {row[0].strip("`") for row in table(page, heading)}


@BY_NAME
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each command line of fedbench in a page's shell blocks."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            names = [word.rpartition("/")[2] for word in words]
            if "fedbench" in names:
                arguments = words[names.index("fedbench") + 1 :]
                ends = [arguments.index(word) for word in ("|", ">", "&&", ";", "2>") if word in arguments]
                yield arguments[: min(ends, default=None)]


@BY_NAME
def test_command_lines_parse(page: Path) -> None:
    from fedbench.cli.app import app

    for arguments in commands(page):
        command, name = typer.main.get_command(app), "fedbench"
        rest = list(arguments)
        while rest and rest[0] in getattr(command, "commands", {}):
            name = rest.pop(0)
            command = command.commands[name]  # type: ignore[attr-defined]
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
        used = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert used <= options, f"{page.name}: fedbench {' '.join(arguments)}"
        assert not hasattr(command, "commands") or used, f"{page.name}: no such command: fedbench {' '.join(arguments)}"
        if not used & {"--help", "-h", "--version"}:
            command.make_context(name, rest)  # raises for what the command line would refuse


def test_every_field_is_described_with_its_default() -> None:
    def plain(value: object) -> str:
        return "null" if value is None else str(value).lower()

    described = {row[0].strip("`"): row[3].strip("`") for row in table(ROOT / "docs/suites.md", "## The fields")}
    assert {name: plain(field.default) for name, field in CellSpec.model_fields.items()} == described


def test_the_example_suite_has_the_cells_that_the_page_says(tmp_path: Path) -> None:
    from fedbench.suites.loading import load_suite

    path = tmp_path / "more-local-work.yaml"
    path.write_text(blocks(ROOT / "docs/suites.md", "yaml")[0])
    suite = load_suite(path)
    labels = [cell.label for cell in suite.cells]
    assert ["many-short", "few-long batch_size=10", "few-long batch_size=50"] == labels
    assert len(suite.runs) == 9


def test_the_shipped_suites_are_listed_with_their_questions() -> None:
    from fedbench.suites.loading import load_suite, shipped_suites

    expected = []
    for path in shipped_suites().glob("*.yaml"):
        suite = load_suite(path)
        datasets = ", ".join(sorted({f"`{cell.spec.dataset}`" for cell in suite.cells}))
        expected.append([f"`{suite.name}`", datasets, str(len(suite.runs)), suite.question])
    rows = table(ROOT / "docs/suites.md", "## The shipped suites")
    assert sorted(expected) == sorted(rows)


@dataclass(frozen=True)
class Recorded:
    """What real commands left in a store: finished, failed, interrupted and superseded runs, cells and a report."""

    experiment_tags: set[str]
    runs: list[Any]
    artifacts: dict[str, set[str]]  # by kind

    def names(self, part: str, *kinds: str) -> set[str]:
        """The names of the tags, params or metrics of the runs of these kinds."""
        runs = [run for run in self.runs if run.data.tags["fedbench.kind"] in kinds]
        return {generalised(name) for run in runs for name in getattr(run.data, part)}


def generalised(name: str) -> str:
    name = re.sub(r"^(client_\w+)/\d+", r"\1/<k>", name)
    name = re.sub(r"^recall/\d", "recall/<class>", name)
    return re.sub(r"^fedbench\.claim\..*", "fedbench.claim.<name>", name)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    from fedbench.datasets import load_dataset
    from fedbench.executors import choose_executor
    from fedbench.reports.page import make_report
    from fedbench.runs.data import DataSource
    from fedbench.runs.suite_run import run_suite
    from fedbench.suites.loading import load_suite
    from fedbench.tracking.mlflow.cells import PARENT
    from fedbench.tracking.mlflow.claims import Claim
    from fedbench.tracking.mlflow.report import log_report
    from fedbench.tracking.mlflow.suites import read_suite
    from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker

    folder = tmp_path_factory.mktemp("store")
    uri = put_empty_store(f"sqlite:///{folder}/mlflow.db")
    small = {"rounds": 1, "local_epochs": 1, "examples_per_client": 10, "target_accuracy": 0.01}
    small["require_accuracy"] = [None, 1.0]
    suite = load_suite("quickstart", only=["two-models"], seeds=[0, 1], overrides={**small, "init": "shared"})
    for fresh, runs in ((False, suite.runs), (True, suite.runs[:2])):
        list(run_suite(runs, DataSource(), MlflowTracker(suite, uri), choose_executor(1), fresh))
    tracker = MlflowTracker(suite, uri)
    for fingerprint in ("interrupted", "under way"):
        tracked = tracker.start_run(suite.runs[0], fingerprint, "cell", load_dataset("mnist-5k"), 0, fresh=False)
        assert isinstance(tracked, MlflowRun)
        if fingerprint == "interrupted":
            tracked.kill("interrupted")
    claim = Claim.of_this_process()
    tags = {"fedbench.kind": "cell", claim.tag: claim.text()}  # as while it is written
    tracker.client.create_run(tracker.experiment_id, tags=tags)
    page = make_report(read_suite(suite.name, uri), folder / "report")
    log_report(uri, suite.name, page, page.parent / "figures")

    found = list(tracker.client.search_runs([tracker.experiment_id]))
    assert PARENT in {name for run in found for name in run.data.tags}
    artifacts: dict[str, set[str]] = {}
    for run in found:
        for path in artifact_paths(tracker.client, run.info.run_id):
            artifacts.setdefault(run.data.tags["fedbench.kind"], set()).add(re.sub(r"/[^/]*\.png$", "/*.png", path))
    return Recorded(set(tracker.client.get_experiment(tracker.experiment_id).tags), found, artifacts)


def artifact_paths(client: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from artifact_paths(client, run_id, each.path)
        else:
            yield each.path


TRACKING = ROOT / "docs/tracking.md"
FIELD_NAMES = [f"{name}/{field}" for name in ("best", "default") for field in ("local_epochs", "learning_rate")]
OUTSIDE_GIT = {"mlflow.source.git.commit", "mlflow.source.git.dirty"}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """What a finished study left, with trials of every state, and one whose command was interrupted."""
    from made_study import made_plan, made_result

    from fedbench.reports.style import Figure
    from fedbench.suites.schema import Suite
    from fedbench.tracking.mlflow.claims import Claim
    from fedbench.tracking.mlflow.tracker import MlflowTracker
    from fedbench.tuning.recording import StudyRun

    folder = tmp_path_factory.mktemp("studied")
    suite = Suite.model_construct(name="made.tuning", question="Why?", seeds=(0,), scenarios=(), path=folder)
    tracker = MlflowTracker(suite, put_empty_store(f"sqlite:///{folder}/mlflow.db"))
    client, experiment_id, claim = tracker.client, tracker.experiment_id, Claim.of_this_process()
    study = StudyRun(client, tracker.uri, experiment_id, made_plan(), "finished")
    study.finish(made_result(), [Figure("history", "The search", "What is seen.", b"")])
    StudyRun(client, tracker.uri, experiment_id, made_plan(), "interrupted").kill("interrupted")
    for kind in ("study", "trial"):  # as while it is written
        client.create_run(experiment_id, tags={"fedbench.kind": kind, claim.tag: claim.text()})
    found = list(client.search_runs([experiment_id]))
    artifacts = {re.sub(r"/[^/]*\.png$", "/*.png", path) for path in artifact_paths(client, study.run_id)}
    return Recorded(set(client.get_experiment(experiment_id).tags), found, {"study": artifacts})


@pytest.mark.parametrize(
    ("part", "heading"), [("tags", "## Run: tags"), ("params", "## Run: parameters"), ("metrics", "## Run: metrics")]
)
def test_the_page_on_mlflow_names_what_a_run_has_and_nothing_else(recorded: Recorded, part: str, heading: str) -> None:
    in_store = recorded.names(part, "run", "superseded") | (OUTSIDE_GIT if part == "tags" else set())
    assert in_store == first_cells(TRACKING, heading)


def test_the_page_on_mlflow_names_what_a_cells_run_has_and_nothing_else(recorded: Recorded) -> None:
    assert recorded.names("tags", "cell") == first_cells(TRACKING, "## Cell run: tags")
    assert first_cells(TRACKING, "## Run: parameters") - {"seed"} == recorded.names("params", "cell")
    of_seeds = {name for name in first_cells(TRACKING, "## Run: metrics") if "<k>" not in name}
    expected = {
        pattern.replace("<metric>", name)
        for pattern in first_cells(TRACKING, "## Cell run: metrics")
        for name in of_seeds
    }
    assert expected == recorded.names("metrics", "cell")


def test_the_page_on_mlflow_names_the_kinds_the_statuses_and_the_experiments_tags(recorded: Recorded) -> None:
    kinds = {run.data.tags["fedbench.kind"] for run in recorded.runs} | {"study", "trial"}
    assert kinds == first_cells(TRACKING, "## Kinds of runs")
    statuses = {run.info.status for run in recorded.runs if run.data.tags["fedbench.kind"] in ("run", "superseded")}
    assert statuses == first_cells(TRACKING, "## Run: name and status")
    experiment = " ".join(row[0] for row in table(TRACKING, "## Experiment"))
    in_store = {tag for tag in recorded.experiment_tags if not tag.startswith("mlflow.experiment")}
    assert in_store | {"mlflow.sharedViewState.trials"} == set(re.findall(r"tag `([^`]+)`", experiment))


def test_the_page_on_mlflow_names_the_artifacts(recorded: Recorded) -> None:
    of_runs = first_cells(TRACKING, "## Run: artifacts")
    (report,) = (row[1] for row in table(TRACKING, "## Kinds of runs") if row[0] == "`report`")
    of_report = {name for name in re.findall(r"`([^`]+)`", report) if name.endswith((".html", ".png"))}
    expected = {"run": of_runs, "superseded": of_runs, "cell": {"confusion.csv"}, "report": of_report}
    assert expected == recorded.artifacts


@pytest.mark.parametrize(("kind", "title"), [("study", "### Study run"), ("trial", "### Trial run")])
def test_the_page_on_mlflow_names_what_studies_and_trials_have_and_nothing_else(
    studied: Recorded, kind: str, title: str
) -> None:
    assert studied.names("tags", kind) | OUTSIDE_GIT == first_cells(TRACKING, f"{title}: tags")
    fields = {axis: f"{axis.partition('/')[0]}/<field>" for axis in FIELD_NAMES}
    metrics = {fields.get(name, name) for name in studied.names("metrics", kind)}
    assert metrics == first_cells(TRACKING, f"{title}: metrics")


def test_the_page_on_mlflow_names_the_parameters_of_studies_and_trials(studied: Recorded) -> None:
    params = {re.sub("^space/.*", "space/<field>", name) for name in studied.names("params", "study")}
    assert params == first_cells(TRACKING, "### Study run: parameters")
    assert first_cells(TRACKING, "## Run: parameters") - {"seed"} == studied.names("params", "trial")


def test_the_page_on_mlflow_names_the_files_the_view_and_the_kinds_of_a_study(studied: Recorded) -> None:
    assert studied.artifacts["study"] == first_cells(TRACKING, "### Study run: artifacts")
    assert "mlflow.sharedViewState.trials" in studied.experiment_tags
    assert {"study", "trial"} == {run.data.tags["fedbench.kind"] for run in studied.runs}


def test_the_page_on_json_names_the_fields_of_a_study() -> None:
    from made_study import made_result

    from fedbench.reports.tuning import tuning_json

    page = ROOT / "docs/results-json.md"
    (example,) = (block for block in map(json.loads, blocks(page, "json")) if "gain" in block)
    document = tuning_json(made_result())
    assert list(document) == list(example)
    assert [*document["best"]] == [*example["best"]] == [*example["default"]]
    assert [*document["best"]["test"]] == [*example["best"]["test"]]
    assert [*document["gain"]] == [*example["gain"]]
    described = {
        name for row in table(page, "## `fedbench tune SUITE --json`") for name in re.findall(r"`([^`]+)`", row[0])
    }
    assert {*document, *(f"best.{name}" for name in document["best"])} == described


def paths(document: Any, prefix: str = "") -> Iterator[str]:
    """The fields of a JSON object, those of objects in it and in lists after a dot: ``cells[].label``."""
    for key, value in document.items():
        yield f"{prefix}{key}"
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            yield from paths(inner, f"{prefix}{key}{'[]' if isinstance(value, list) else ''}.")


def described_fields(page: Path, heading: str) -> set[str]:
    return {name for row in table(page, heading) for name in re.findall(r"`([^`]+)`", row[0])}


def test_the_page_on_json_names_the_fields_of_a_check() -> None:
    from made_gate import FAILED

    from fedbench.gate.table import gate_json

    page = ROOT / "docs/results-json.md"
    (example,) = (block for block in map(json.loads, blocks(page, "json")) if "failures" in block)
    fields = list(paths(gate_json(FAILED)))
    assert fields == list(paths(example))
    of_spreads = re.compile(r"\.(baseline|now)\.(mean|std|values)$")
    parents = {"accuracy.cells", "speed.benchmarks"}
    expected = {name for name in fields if not of_spreads.search(name)} - parents
    assert expected == described_fields(page, "## `fedbench check SUITE --json`")


def test_the_page_on_json_names_the_fields_of_a_history() -> None:
    from fedbench.reports.history import Check, History, Timing
    from fedbench.reports.history_table import history_json
    from fedbench.stats import Spread

    page = ROOT / "docs/results-json.md"
    (example,) = (block for block in map(json.loads, blocks(page, "json")) if "timings" in block)
    cells, ratios = {"two-models init:shared": Spread(0.8, 0.1, ())}, {"client_step:simple-cnn": 1.0}
    check = Check("run", 0, "made", "none", 0, "passed", "accuracy", (), cells, {}, ratios)
    document = history_json(History("made", (check,), (), (Timing("step", "training", "none", 0, 0, 2.0),)), [])
    assert list(paths(document)) == list(paths(example))
    names = {name for name in paths(document) if not re.search(r"\.(cells|ratios)\.", name)} - {"suite"}
    assert names == described_fields(page, "## `fedbench history SUITE --json`")


def test_the_page_on_mlflow_names_the_fields_of_a_claim() -> None:
    from fedbench.tracking.mlflow.claims import Claim

    fields = {field.name for field in dataclasses.fields(Claim)} - {"name"}
    assert fields == first_cells(TRACKING, "## Which process works on a run")


@pytest.mark.parametrize("name", ["notebook.md", "extending.md", "tracking.md", "benchmarks.md"])
def test_code_blocks_compile(name: str) -> None:
    found = blocks(ROOT / "docs" / name, "python")
    assert found
    for number, block in enumerate(found, start=1):
        compile(block, f"{name}, block {number}", "exec")


@pytest.mark.parametrize(("code", "text"), [(0, 0), (2, 1)])
def test_the_notebooks_blocks_print_what_the_page_says(code: int, text: int) -> None:
    page = ROOT / "docs/notebook.md"
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(blocks(page, "python")[code], f"notebook.md, block {code + 1}", "exec"), {})  # noqa: S102 - our own page
    assert blocks(page, "text")[text] == printed.getvalue()


def test_the_jobs_on_the_page_of_the_gate_are_what_github_and_gitlab_take(tmp_path: Path) -> None:
    for text, schema in zip(blocks(ROOT / "docs/gate.md", "yaml"), ("github-workflows", "gitlab-ci"), strict=True):
        job = tmp_path / f"{schema}.yml"
        job.write_text(text)
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout
