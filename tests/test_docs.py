"""The pages say what is true: links, commands, names in MLflow and JSON, code and its output.

Every command that a page shows is parsed, and those that need no other machine, network or browser are run, in the
order of the pages, in one folder with one store. Small suites stand in for those that come with fedbench.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from command import fedbench_here

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NAVIGATION = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)  # the order of reading
PAGES = [*(DOCS / name for name in NAVIGATION), *sorted(ROOT.glob("*.md"))]
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
REPOSITORY = re.compile(r"https://[\w.]+/fedbench/fedbench/(?:blob/)?main/([^)#\s\"]+)")
MLFLOW, JSON = DOCS / "reference/mlflow.md", DOCS / "reference/json.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def section(page: Path, heading: str) -> str:
    """What follows a heading, up to the next one."""
    _, found, rest = page.read_text().partition(f"\n{heading}\n")
    assert found, f"{page.name} has no heading {heading}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def named(page: Path, *headings: str) -> set[str]:
    """The names in the first columns of the tables below these headings."""
    rows = [line for heading in headings for line in section(page, heading).splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


# Links; those between the pages of docs/ are checked by mkdocs


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_pages_in_the_root_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        assert re.match(r"[a-z]+:", target) or (ROOT / target.partition("#")[0]).exists(), target


def test_addresses_of_the_repository_name_files_that_are_in_it() -> None:
    for page in [*PAGES, ROOT / "pyproject.toml"]:
        for path in REPOSITORY.findall(page.read_text()):
            assert (ROOT / path).exists(), f"{page.name} links to {path}"


def test_the_readme_has_no_link_that_the_package_index_would_break() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert targets
    assert [] == [target for target in targets if ":" not in target]


def test_each_promise_names_a_test_or_a_script_that_is_there() -> None:
    text = (DOCS / "reference/limits.md").read_text()
    promises = re.findall(r"^\| (?!what |---).* \| .* \| (.*) \|$", text, re.MULTILINE)
    assert len(promises) >= 30
    assert [] == [shown for shown in promises if not re.search(r"`(test_\w+|tests/.*\.py)`", shown)]
    tests = {
        name for path in ROOT.glob("tests/**/test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert set() == set(re.findall(r"`(test_\w+)`", text)) - tests
    assert [] == [path for path in re.findall(r"`(tests/[^`]+)`", text) if not (ROOT / path).is_file()]


# Commands


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
        assert not hasattr(command, "commands"), f"{page.name}: no such command: fedbench {' '.join(arguments)}"
        command.make_context(name, rest)  # raises for what the command line would refuse


# Run by tests of their own.
ELSEWHERE = ("ui", "fetch", "verify", "bench", "--speed", "--executor", "--storage", "--objective")
TINY = {"dataset": "mnist-5k", "learning_rate": 0.1, "batch_size": 50, "rounds": 1, "local_epochs": 1}
TUNE = {"space": {"learning_rate": [0.01, 0.1]}, "trials": 2, "seeds": [0], "fresh_seeds": [5, 6]}


def stand_in(name: str, *scenarios: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "question": "Why?", "seeds": [0], "defaults": TINY, "scenarios": list(scenarios), **more}


def stand_ins() -> Iterator[dict[str, Any]]:
    grid = {"name": "grid", "examples_per_client": 400, "rounds": 2, "local_epochs": 2}
    two_models = {"name": "two-models", "init": ["shared", "independent"], "examples_per_client": 50}
    more_data = grid | {"name": "more-data", "examples_per_client": [25, 400], "learning_rate": 0.01}
    yield stand_in("quickstart", two_models, more_data, tune={"scenario": "more-data"} | TUNE) | {"seeds": [0, 1]}
    all_measures = two_models | {"interpolation": True, "target_accuracy": 0.01}
    aligned = all_measures | {"name": "aligned", "init": "independent", "aggregation": "aligned", "repair": True}
    yield stand_in("averaging-explained", all_measures, aligned) | {"seeds": [0, 1]}
    yield stand_in("algorithms", grid | {"name": "shards"})
    reference = {"iid-e1-b10": {"paper": 34, "band": [1, 51]}}
    row = grid | {"name": "iid-e1-b10", "target_accuracy": 0.01}
    yield stand_in("paper-table2", row, conformance=reference)
    small = ("averaging-failure", "client-grid-fashion-mnist", "learning-rates", "sanity", "my-suite")
    for name in (*small, "averaging-explained-quick"):
        yield stand_in(name, {"name": "one", "examples_per_client": 50})
    for name in ("client-grid-mnist", "client-grid-ham10000"):
        yield stand_in(name, grid, tune=TUNE)


def save_files(page: Path, folder: Path) -> list[Path]:
    """Save the blocks of a page that begin with the name of a file, such as ``# scans.yaml``."""
    found = [
        (name[1], text)
        for text in [*blocks(page, "python"), *blocks(page, "yaml")]
        if (name := re.match(r"# (\S+\.(?:py|yaml))\n", text))
    ]
    for name, text in found:
        (folder / name).write_text(text)
    return [folder / name for name, _ in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with small suites, with what the pages say to save, and with a store."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "suites").mkdir()
    for suite in stand_ins():
        (folder / "suites" / f"{suite['name']}.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    own = yaml.safe_load(blocks(DOCS / "tutorials/first-suite.md", "yaml")[0])
    for scenario in own["scenarios"]:
        scenario |= {"rounds": 1, "local_epochs": 1, "examples_per_client": 50}
    (folder / "suites/more-local-work.yaml").write_text(yaml.safe_dump(own))
    for page in ("own-parts", "datasets"):
        save_files(DOCS / f"how-to/{page}.md", folder)
    (question,) = save_files(DOCS / "how-to/answer.md", folder)
    asked = yaml.safe_load(question.read_text())
    question.write_text(yaml.safe_dump(asked | {"defaults": asked["defaults"] | {"rounds": 1, "local_epochs": 1}}))
    subprocess.run([sys.executable, "make_scans.py"], cwd=folder, check=True)
    for name in ("quickstart", "paper-table2"):
        assert 0 == fedbench_here("run", name, "--workers", "1", folder=folder).code
    shutil.copytree(folder / "mlruns", folder / "other/mlruns")
    return folder


def made_here(arguments: list[str], folder: Path) -> list[str]:
    """A command of a page with one worker, and with a run and stores that are there."""
    stores = {"OLD": "other/mlruns", "NEW": "mlruns"}
    words = [stores.get(word, word) for word in arguments]
    if words[:2] == ["runs", "show"]:
        listed = json.loads(fedbench_here("runs", "list", "--json", folder=folder).out)
        words[2] = listed["runs"][0]["run_id"]
    if "--workers" in words:
        words[words.index("--workers") + 1] = "1"
    elif words[0] in ("run", "check", "baseline"):
        words += ["--workers", "1"]
    if words[0] == "baseline" and "--allow-collapsed" not in words:  # models of the small suites are
        words += ["--allow-collapsed"]
    return words


@pytest.mark.slow
def test_commands_run(folder: Path) -> None:
    elsewhere = ("containers.md", "your-own-model.md")  # run by tests of their own
    lines = [shlex.join(arguments) for page in PAGES if page.name not in elsewhere for arguments in commands(page)]
    for line in dict.fromkeys(lines):
        arguments = shlex.split(line)
        if not any(word in ELSEWHERE for word in arguments):
            done = fedbench_here(*made_here(arguments, folder), folder=folder)
            assert 0 == done.code, f"fedbench {line}: {done.err}"
            assert "--json" not in arguments or json.loads(done.out)


def test_the_example_suite_has_the_cells_that_the_page_says(tmp_path: Path) -> None:
    from fedbench.suites.loading import load_suite

    path = tmp_path / "more-local-work.yaml"
    more = blocks(DOCS / "reference/suite-file.md", "yaml")  # other keys of the same suite
    (suite_file,) = blocks(DOCS / "tutorials/first-suite.md", "yaml")
    suite_file = suite_file.partition("contrast:")[0]
    suite_file = suite_file.replace("name: many-short\n", "name: many-short\n    target_accuracy: 0.9\n")
    path.write_text("".join([suite_file, *more]))
    suite = load_suite(path)
    assert ("few-long", 2) == (suite.tune.scenario, len(suite.tune.space or ()))
    assert ["many-short", "few-long batch_size=10", "few-long batch_size=50"] == [cell.label for cell in suite.cells]
    assert len(suite.runs) == 9


def test_the_examples_of_own_data_are_what_the_page_says(tmp_path: Path) -> None:
    from fedbench.suites.loading import load_suite

    page = DOCS / "how-to/datasets.md"
    saved = {path.name for path in save_files(page, tmp_path)}
    assert {"make_scans.py", "tabular.py", "scans.yaml", "my_data.py"} == saved
    subprocess.run([sys.executable, "make_scans.py"], cwd=tmp_path, check=True)
    suite = load_suite(tmp_path / "scans.yaml")
    assert ["hospitals width=4", "hospitals width=16"] == [cell.label for cell in suite.cells]
    assert suite.cells[0].spec.part("dataset").INFO.sizes == {"given": (400, 169)}
    (use,) = [text for text in blocks(page, "yaml") if "my_data.py:load" in text]
    given = yaml.safe_load((tmp_path / "scans.yaml").read_text())
    given["scenarios"] = [{"name": "points", **yaml.safe_load(use)}]
    del given["defaults"]["dataset"]
    (tmp_path / "points.yaml").write_text(yaml.safe_dump(given))
    points = load_suite(tmp_path / "points.yaml").cells
    assert [150, 0.5, 1.0, 2.0] == [points[0].spec.num_examples, *(cell.spec.get("noise") for cell in points)]


# Names in MLflow


@dataclass(frozen=True)
class Recorded:
    """The runs of a kind in a store, from real commands."""

    runs: list[Any]
    artifacts: set[str]

    def names(self, part: str) -> set[str]:
        """The names of their tags, params or metrics."""
        return {generalised(name) for run in self.runs for name in getattr(run.data, part)}


def generalised(name: str) -> str:
    for pattern, general in (
        (r"^(client_\w+)/\d+", r"\1/<k>"),
        (r"^recall/\d", "recall/<class>"),
        (r"^space/.*", "space/<field>"),
        (r"^fedbench\.answer\.\w+", "fedbench.answer.<axis>"),
        (r"^(best|default)/learning_rate", r"\1/<field>"),
        (r"^(accuracy|difference|std|seeds|interval_low|interval_high)/(one|aligned|.*[: ].*)$", r"\1/<cell>"),
    ):
        name = re.sub(pattern, general, name)
    return name


def artifact_paths(client: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from artifact_paths(client, run_id, each.path)
        else:
            yield re.sub(r"/[^/]*\.png$", "/*.png", each.path)


@pytest.fixture(scope="module")
def recorded(folder: Path) -> Callable[[str, str], Recorded]:
    """What a kind of run of an experiment has, after commands of every kind."""
    from mlflow import MlflowClient

    for command in (
        "run averaging-explained",
        "report averaging-explained",
        "tune quickstart",
        "baseline sanity --allow-collapsed",
        "check sanity --seeds 0-1",
    ):
        words = made_here(shlex.split(command), folder)
        assert 0 == fedbench_here(*words, folder=folder).code, command
    failing = ("run", "averaging-explained", "--only", "two-models", "--set", "require_accuracy=1.0", "--workers", "1")
    assert 1 == fedbench_here(*failing, folder=folder).code
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")

    def find(experiment: str, kind: str) -> Recorded:
        variant = f"{experiment}@require_accuracy=1.0"  # of which a run has failed
        found = [each for name in (experiment, variant) if (each := client.get_experiment_by_name(name))]
        runs = list(client.search_runs([each.experiment_id for each in found], f"tags.`fedbench.kind` = '{kind}'"))
        assert runs
        return Recorded(runs, {path for run in runs for path in artifact_paths(client, run.info.run_id)})

    return find


COMMON, SOURCE = "## Tags of all kinds", {"mlflow.source.git.commit", "mlflow.source.git.dirty"}
WITHOUT_A_CELL = {"fedbench.scenario", "fedbench.cell", "fedbench.verdict", "fedbench.reason"}
OF_MLFLOW = {"mlflow.user", "mlflow.parentRunId"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "kind", "title"),
    [
        ("averaging-explained", "run", "### Run"),
        ("averaging-explained", "cell", "### Cell run"),
        ("quickstart.tuning", "study", "### Study run"),
        ("quickstart.tuning", "trial", "### Trial run"),
        ("regression", "check", "### Check run"),
    ],
)
def test_the_page_on_mlflow_names_what_a_kind_of_run_has_and_nothing_else(
    recorded: Callable[[str, str], Recorded], experiment: str, kind: str, title: str
) -> None:
    found = recorded(experiment, kind)
    described = named(MLFLOW, COMMON, f"{title}: tags") | SOURCE | OF_MLFLOW
    assert found.names("tags") <= described | {"fedbench.commit", "fedbench.commits"}
    of_some = SOURCE | OF_MLFLOW | {"fedbench.failed", "fedbench.names", "fedbench.source.model"}
    assert named(MLFLOW, f"{title}: tags") - of_some <= found.names("tags")
    metrics = named(MLFLOW, f"{title}: metrics")
    if kind == "cell":
        of_runs = {name for name in named(MLFLOW, "### Run: metrics") if "<k>" not in name}
        metrics = {pattern.replace("<metric>", name) for pattern in metrics for name in of_runs}
    of_speed = {"balanced_accuracy/<cell>", "ratio/<benchmark>", "largest_ratio"}
    of_seeds = {"objective/std", "best/validation/std", "default/validation/std"}
    assert found.names("metrics") <= metrics
    missing = metrics - found.names("metrics")
    of_gaps = {name for name in missing if name.partition("/")[0] == "recovered"}  # such small runs have none
    assert missing <= (of_speed if kind == "check" else of_seeds) | of_gaps
    artifacts = {"run": "### Run: artifacts", "study": "### Study run: artifacts"}
    if kind in artifacts:
        assert named(MLFLOW, artifacts[kind]) - {"parts/KIND/FILE"} == found.artifacts
    if kind == "study":
        assert named(MLFLOW, "### Study run: parameters") - {"target"} == found.names("params")  # of one objective


# Fields of JSON


def paths(document: Any, prefix: str = "") -> Iterator[str]:
    """The fields of a JSON object, those of objects in it and in lists after a dot: ``cells[].label``."""
    for key, value in document.items():
        yield f"{prefix}{key}"
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            yield from paths(inner, f"{prefix}{key}{'[]' if isinstance(value, list) else ''}.")


OPAQUE = re.compile(r"\.(params|parts|(balanced_|client_)?accuracy|loss|majority_rate|rounds_to_target)\.")
OF_PAIRS = re.compile(
    r"^answers\[\]\.(pairs\[\]|left_out)\."
)  # such small runs have none: see tests/reports/test_answers.py
OF_SPREADS = re.compile(r"\.(a|b|baseline|now|test)\.(mean|std|values)$|\.(splits|cells|ratios)\.|^(gain|changes)\.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("run SUITE", "run averaging-explained"),
        ("run SUITE --dry-run", "run quickstart --dry-run"),
        ("suites SUITE", "suites quickstart"),
        ("data list", "data list"),
        ("components", "components optimiser"),
        ("tune SUITE", "tune quickstart"),
        ("compare A B", "compare other/mlruns mlruns"),
        ("conformance SUITE", "conformance paper-table2"),
    ],
)
def test_the_page_on_json_names_the_fields_of(heading: str, command: str, folder: Path) -> None:
    done = fedbench_here(*made_here(shlex.split(command), folder), "--json", folder=folder)
    fields = {path for path in paths(json.loads(done.out)) if not (OPAQUE.search(path) or OF_SPREADS.search(path))}
    found = {re.sub(r"^default\.", "best.", field) for field in fields}  # described together
    described = {name for name in named(JSON, f"## `fedbench {heading} --json`") if not name.startswith("profile")}
    containers = {"cells", "rows", "datasets", "components", "components[].options"}
    without = containers | {name for name in found | described if OF_PAIRS.search(name)}
    assert found - without == described - without


def test_the_page_on_json_names_the_fields_of_a_check() -> None:
    from made_gate import FAILED

    from fedbench.gate.document import gate_json

    fields = {name for name in paths(gate_json(FAILED)) if not re.search(r"\.(baseline|now)\.\w+$", name)}
    parents = {"accuracy.cells", "speed.benchmarks"}
    assert fields - parents == named(JSON, "## `fedbench check SUITE --json`")


# Code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_compile(page: Path) -> None:
    for number, block in enumerate(blocks(page, "python"), start=1):
        compile(block, f"{page.name}, block {number}", "exec")


@pytest.mark.parametrize(("code", "text"), [pytest.param(0, 0, marks=pytest.mark.slow), (2, 1), (4, 2), (5, 3)])
def test_the_notebooks_blocks_print_what_the_page_says(
    code: int, text: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "tutorials/notebook.md"
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(blocks(page, "python")[code], f"notebook.md, block {code + 1}", "exec"), {})  # noqa: S102 - our own page
    assert blocks(page, "text")[text] == printed.getvalue()


def test_the_jobs_on_the_page_of_the_gate_are_what_github_and_gitlab_take(tmp_path: Path) -> None:
    for text, schema in zip(blocks(DOCS / "how-to/gate.md", "yaml"), ("github-workflows", "gitlab-ci"), strict=True):
        job = tmp_path / f"{schema}.yml"
        job.write_text(text)
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout
