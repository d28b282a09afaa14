"""The pages in docs/ say what is true: links, commands, defaults, names in MLflow, code and its output."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from fedbench.specs import CellSpec

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
    from fedbench.cli import app

    for arguments in commands(page):
        command, name = typer.main.get_command(app), "fedbench"
        rest = list(arguments)
        while rest and rest[0] in getattr(command, "commands", {}):
            name = rest.pop(0)
            command = command.commands[name]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
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
    from fedbench.suites import load_suite

    path = tmp_path / "more-local-work.yaml"
    path.write_text(blocks(ROOT / "docs/suites.md", "yaml")[0])
    suite = load_suite(path)
    labels = [cell.label for cell in suite.cells]
    assert ["many-short", "few-long batch_size=10", "few-long batch_size=50"] == labels
    assert len(suite.runs) == 9


def test_the_shipped_suites_are_listed_with_their_questions() -> None:
    from fedbench.suites import load_suite, shipped_suites

    expected = []
    for path in shipped_suites().glob("*.yaml"):
        suite = load_suite(path)
        datasets = ", ".join(sorted({f"`{cell.spec.dataset}`" for cell in suite.cells}))
        expected.append([f"`{suite.name}`", datasets, str(len(suite.runs)), suite.question])
    rows = table(ROOT / "docs/suites.md", "## The shipped suites")
    assert sorted(expected) == sorted(rows)


@dataclass(frozen=True)
class Recorded:
    """The names that two real runs left in a store, one of them failed."""

    tags: set[str]
    params: set[str]
    metrics: set[str]
    statuses: set[str]
    experiment_tags: set[str]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    from fedbench.executors import choose_executor
    from fedbench.runner import DataSource, run_suite
    from fedbench.suites import load_suite
    from fedbench.tracking.mlflow import MlflowTracker

    small = {"rounds": 1, "local_epochs": 1, "examples_per_client": 10, "require_accuracy": [None, 1.0]}
    suite = load_suite("quickstart", only=["two-models"], seeds=[0], overrides={**small, "init": "shared"})
    tracker = MlflowTracker(suite, f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")
    for _ in run_suite(suite.runs, DataSource(), tracker, choose_executor(1)):
        pass
    experiment = tracker.client.get_experiment(tracker.experiment_id)
    runs = tracker.client.search_runs([tracker.experiment_id])
    assert len(runs) == 2
    return Recorded(
        tags={name for run in runs for name in run.data.tags},
        params={name for run in runs for name in run.data.params},
        metrics={re.sub(r"/\d+$", "/<k>", name) for run in runs for name in run.data.metrics},
        statuses={run.info.status for run in runs},
        experiment_tags=set(experiment.tags),
    )


@pytest.mark.parametrize(
    ("kind", "heading"), [("tags", "## Run: tags"), ("params", "## Run: parameters"), ("metrics", "## Run: metrics")]
)
def test_the_page_on_mlflow_names_what_is_in_the_store_and_nothing_else(
    recorded: Recorded, kind: str, heading: str
) -> None:
    outside_git = {"mlflow.source.git.commit", "mlflow.source.git.dirty"}
    in_store: set[str] = getattr(recorded, kind) | (outside_git if kind == "tags" else set())
    assert in_store == first_cells(ROOT / "docs/tracking.md", heading)


def test_the_page_on_mlflow_names_the_statuses_and_the_experiments_tags(recorded: Recorded) -> None:
    page = ROOT / "docs/tracking.md"
    assert recorded.statuses <= first_cells(page, "## Run: name and status")
    experiment = " ".join(row[0] for row in table(page, "## Experiment"))
    assert all(f"`{tag}`" in experiment for tag in recorded.experiment_tags if not tag.startswith("mlflow.experiment"))


@pytest.mark.parametrize("name", ["notebook.md", "extending.md", "tracking.md"])
def test_code_blocks_compile(name: str) -> None:
    found = blocks(ROOT / "docs" / name, "python")
    assert found
    for number, block in enumerate(found, start=1):
        compile(block, f"{name}, block {number}", "exec")


def test_the_notebooks_first_block_prints_what_the_page_says() -> None:
    page = ROOT / "docs/notebook.md"
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(blocks(page, "python")[0], "notebook.md, block 1", "exec"), {})  # noqa: S102 - our own page
    assert blocks(page, "text")[0] == printed.getvalue()
