"""The command as a user meets it: exit codes, one line for every error, and what goes to which stream."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from command import Done, fedbench_here
from needed import needs
from process import COMMAND, TINY, complaint, environment, fedbench, notices
from ray_nodes import why_no_ray

from fedbench.cli.app import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def test_a_home_folder_that_no_library_finds_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    def fails(*_: object, **__: object) -> None:
        Path.home()

    monkeypatch.setattr(Path, "home", classmethod(unknown))
    monkeypatch.setattr("fedbench.runs.launch.track_suite", fails)
    done = fedbench_here("run", "tiny.yaml", folder=folder)
    assert (2, "fedbench: error: the home folder is not known: set HOME\n") == (done.code, done.err)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], r"No such command 'rum'.*\(see: fedbench --help\)"),
        (["run"], r"Missing argument 'SUITE'.*\(see: fedbench run --help\)"),
        (["run", "quickstrat"], r"unknown suite 'quickstrat'; did you mean quickstart\?.*or give the path"),
        (["run", "nowhere/suite.yaml"], r"nowhere/suite\.yaml: "),
        (["run", "tiny.yaml", "--set", "round=3"], r"--set: unknown key 'round'; did you mean rounds\?"),
        (["run", "tiny.yaml", "--set", "rounds=many"], r"--set: rounds is 'many'; it must be a whole number"),
        (["run", "tiny.yaml", "--seeds", "a,b"], r"--seeds: 'a,b' is not a list of seeds; write 0,1,2 or 0-4"),
        (["run", "tiny.yaml", "--only", "pear"], r"--only: unknown scenario 'pear'; did you mean pair\?"),
        (
            ["run", "tiny.yaml", "--workers", "two"],
            r"Invalid value for '--workers': .*integer.*\(see: fedbench run --help\)",
        ),
        (["run", "tiny.yaml", "--workers", "0"], r"Invalid value for '--workers': .*1 \(see: fedbench run --help\)"),
        (["run", "tiny.yaml", "--workers", "10000"], r"Invalid value for '--workers': .* 1024 \("),
        (["run", "tiny.yaml", "--cpus-per-run", f"1{'0' * 23}"], r"Invalid value for '--cpus-per-run': .* 1024 \("),
        (["run", "tiny.yaml", "--gpus-per-run", "nan"], r"Invalid value for '--gpus-per-run': .* 1 \("),
        (["run", "tiny.yaml", "--memory-per-run", "inf"], r"Invalid value for '--memory-per-run': .* 65536 \("),
        (["run", "tiny.yaml", "--memory-per-run", "nan"], r"Invalid value for '--memory-per-run': .* 65536 \("),
        (["tune", "tiny.yaml", "--workers", "10000"], r"Invalid value for '--workers': .* 1024 \("),
        (["tune", "tiny.yaml", "--timeout", "inf"], r"Invalid value for '--timeout': .* 31622400 \("),
        (["run", "tiny.yaml", "--nosuch"], r"No such option: --nosuch"),
        (["run", "tiny.yaml", "--address", "10.0.0.5:6379"], r"--address and the --\.\.\.-per-run options need"),
        (["run", "tiny.yaml", "--gpus-per-run", "1"], r"--address and the --\.\.\.-per-run options need"),
        (["run", "tiny.yaml", "--executor", "ray", "--profile"], r"--profile records this process: leave out"),
        (["run", "tiny.yaml", "--executor", "ray", "--device", "mps"], r"the nodes of a cluster have cpu and cuda"),
        (
            ["run", "tiny.yaml", "--executor", "ray", "--device", "cuda", "--gpus-per-run", "0"],
            r"do not go together",
        ),
        (["run", "tiny.yaml", "--only", "pair", "--set", "dataset=mnist"], r"fedbench data fetch mnist"),
        (["data", "fetch", "minst"], r"unknown dataset 'minst'"),
        (["data", "verify", "minst"], r"unknown dataset 'minst'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], message: str) -> None:
    assert re.search(message, complaint(fedbench_here(*arguments, folder=folder)))
    assert ["tiny.yaml"] == [path.name for path in folder.iterdir()]


def test_an_error_in_a_suite_file_names_file_field_value_and_remedy(folder: Path) -> None:
    (folder / "wrong.yaml").write_text(TINY.replace("rounds: 2", "rounds: 0"))
    line = complaint(fedbench("run", "wrong.yaml", folder=folder))
    assert "wrong.yaml: defaults: rounds is 0; it must be at least 1" == line


def test_a_store_that_cannot_be_opened_is_one_line(folder: Path) -> None:
    done = fedbench_here("run", "tiny.yaml", "--tracking-uri", "sqlite:///tiny.yaml", folder=folder)
    assert "tracking store sqlite:///tiny.yaml is not a SQLite database" in complaint(done)
    assert TINY == (folder / "tiny.yaml").read_text()


@pytest.mark.parametrize(
    "uri",
    ["postgresql://user:secret@127.0.0.1:1/x", "http://user:secret@127.0.0.1:1", "postgresql://user:secret@[::1:p/x"],
)
def test_a_store_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path, uri: str) -> None:
    message = complaint(fedbench_here("run", "quickstart", "--tracking-uri", uri, folder=tmp_path))
    assert "secret" not in message
    assert "--tracking-uri" in message


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_without_a_command_the_help_is_shown_and_nothing_else(folder: Path, arguments: list[str]) -> None:
    done = fedbench_here(*arguments, folder=folder)
    assert 2 == done.code
    assert "Usage: fedbench" in done.out + done.err
    assert "error:" not in done.out + done.err


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("arguments", [[], ["run"], ["check"], ["data"], ["runs", "delete"]])
def test_help_cuts_nothing(folder: Path, arguments: list[str], columns: int) -> None:
    done = fedbench_here(*arguments, "--help", folder=folder, columns=columns)
    assert (0, "") == (done.code, done.err)
    assert not re.search(r"…|\w\.\.\.", done.out)
    assert max(map(len, done.out.splitlines())) <= columns


# Quick answers


@pytest.mark.parametrize("arguments", [["run", "--help"], ["run", "wrong.yaml"]])
def test_help_and_suite_errors_take_under_half_a_second_of_processor_time(folder: Path, arguments: list[str]) -> None:
    (folder / "wrong.yaml").write_text("name: 3")

    def processor_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        fedbench(*arguments, folder=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert processor_seconds() < 0.5 or processor_seconds() < 0.5  # the machine may have been busy once


QUICK = [["--help"], ["run", "--help"], ["run", "wrong.yaml"], ["suites"], ["suites", "tiny.yaml"], ["data", "list"]]


def test_quick_answers_import_neither_torch_nor_mlflow(folder: Path) -> None:
    (folder / "wrong.yaml").write_text("name: 3")
    script = (
        "import sys\n"
        "from fedbench.cli.app import main\n"
        f"for arguments in {QUICK!r}:\n"
        "    sys.argv = ['fedbench', *arguments]\n"
        "    try:\n        main()\n"
        "    except SystemExit:\n        pass\n"
        "    print('imported:', sorted({'torch', 'mlflow', 'pandas', 'scipy'} & set(sys.modules)), arguments)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    imported = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert [f"imported: [] {arguments}" for arguments in QUICK] == imported


def commands(group: typer.Typer, *names: str) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        yield (*names, command.name or "")
    for subgroup in group.registered_groups:
        assert subgroup.typer_instance is not None
        yield from commands(subgroup.typer_instance, *names, subgroup.name or "")


def test_every_command_has_help_with_an_example(folder: Path) -> None:
    found = list(commands(app))
    assert {("run",), ("data", "fetch"), ("runs", "delete")} <= set(found)
    for command in found:
        done = fedbench_here(*command, "--help", folder=folder)
        assert 0 == done.code
        assert f"Example: fedbench {' '.join(command)}" in done.out, command


def test_the_version_is_printed(folder: Path) -> None:
    assert re.fullmatch(r"fedbench \d+\.\d+\.\d+\n", fedbench_here("--version", folder=folder).out)


# Listings


def test_suites_and_their_cells_are_listed(folder: Path) -> None:
    done = fedbench_here("suites", folder=folder)
    assert 0 == done.code
    assert "quickstart" in done.out
    listed = json.loads(fedbench_here("suites", "--json", folder=folder).out)["suites"]
    assert {"quickstart", "sanity"} <= {suite["suite"] for suite in listed}
    done = fedbench_here("suites", "tiny.yaml", folder=folder)
    assert 0 == done.code
    assert "Does the command work?" in done.out
    found = json.loads(fedbench_here("suites", "tiny.yaml", "--json", folder=folder).out)
    assert ("tiny", 4, ["pair", "large"]) == (found["suite"], found["runs"], [cell["label"] for cell in found["cells"]])


def test_brackets_in_a_suites_question_and_path_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a[b].yaml").write_text(re.sub("question: .*", 'question: "Is [/b] or [red] :smile:?"', TINY))
    done = fedbench_here("suites", "./a[b].yaml", folder=tmp_path)
    assert (0, []) == (done.code, notices(done))
    assert "Is [/b] or [red] :smile:?" in done.out
    assert "a[b].yaml" in done.out


def test_a_broken_suite_file_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "broken.yaml").write_text("- 1")
    done = fedbench_here("suites", folder=tmp_path)
    assert 2 == done.code
    assert "quickstart" in done.out
    assert re.fullmatch(r"fedbench: error: [^\n]*broken\.yaml[^\n]+\n", done.err)


def test_datasets_are_listed_and_nothing_is_written(folder: Path) -> None:
    done = fedbench_here("data", "list", "--json", folder=folder)
    listed = {each["name"]: each for each in json.loads(done.out)["datasets"]}
    assert (0, True, False) == (done.code, listed["mnist-5k"]["present"], listed["mnist"]["present"])
    assert {"stratified": {"train": 4000, "test": 1000}} == listed["mnist-5k"]["splits"]
    assert "fedbench data fetch mnist" == listed["mnist"]["command"]
    assert "no: fedbench data fetch mnist" in fedbench_here("data", "list", folder=folder).out
    assert ["tiny.yaml"] == [path.name for path in folder.iterdir()]


def test_verifying_missing_data_says_so_with_exit_code_1(folder: Path) -> None:
    done = fedbench_here("data", "verify", "mnist-5k", folder=folder)
    assert (0, "mnist-5k: all files are present and intact\n") == (done.code, done.out)
    done = fedbench_here("data", "verify", "mnist", folder=folder)
    assert 1 == done.code
    assert "fedbench data fetch mnist" in done.out


# Running


def test_a_dry_run_says_what_would_run_and_writes_nothing(folder: Path) -> None:
    done = fedbench_here("run", "tiny.yaml", "--dry-run", "--json", folder=folder)
    found = json.loads(done.out)
    assert (0, "tiny", 2) == (done.code, found["suite"], found["runs"])
    pair, large = found["cells"]
    assert (2, 8, None) == (pair["runs"], pair["local_steps"], pair["shortfall"])
    assert (0, "needs 2 x 9000 = 18000 training examples; mnist-5k has 4000") == (large["runs"], large["shortfall"])
    assert ["tiny.yaml"] == [path.name for path in folder.iterdir()]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A suite run for the first time, with --json."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "tiny.yaml").write_text(TINY)
    return folder, fedbench_here("run", "tiny.yaml", "--workers", "1", "--json", folder=folder)


def test_a_run_prints_one_json_object_and_writes_in_mlruns_only(ran: tuple[Path, Done]) -> None:
    folder, done = ran
    found = json.loads(done.out)
    counts = ("suite", "executed", "skipped", "failed")
    assert (0, "tiny", 2, 2, 0) == (done.code, *(found[key] for key in counts))
    assert [("pair", [0, 1]), ("large", [])] == [(cell["scenario"], cell["seeds"]) for cell in found["cells"]]
    assert 0.1 == found["cells"][0]["majority_rate"]["mean"]
    assert {"tiny.yaml", "mlruns"} == {path.name for path in folder.iterdir()}
    assert {"mlflow.db", "artifacts", "checkpoints"} == {path.name for path in (folder / "mlruns").iterdir()}
    assert [] == list((folder / "mlruns" / "checkpoints").glob("*.ckpt"))


def test_the_same_command_again_skips_finished_runs_and_shows_the_same_results(ran: tuple[Path, Done]) -> None:
    folder, first = ran
    again = fedbench_here("run", "tiny.yaml", "--json", folder=folder)
    before, after = json.loads(first.out), json.loads(again.out)
    assert (0, 0, 4) == (again.code, after["executed"], after["skipped"])
    assert before["cells"] == after["cells"]


def test_a_failed_run_is_exit_code_1_and_the_table_says_why(ran: tuple[Path, Done]) -> None:
    folder, _ = ran
    options = ("--only", "pair", "--seeds", "0", "--set", "require_accuracy=1", "--workers", "1")
    done = fedbench_here("run", "tiny.yaml", *options, folder=folder)
    assert 1 == done.code
    assert "is below the required 100.0%" in done.out
    assert "1 run executed, 1 failed." in done.out


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "suites", "--json"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "" == process.stderr.read()
    process.stderr.close()
    assert 1 == process.wait(timeout=30)


@pytest.mark.slow
@needs(why_no_ray())
def test_a_run_on_a_ray_of_this_machine_prints_nothing_but_its_results(folder: Path) -> None:
    done = fedbench("run", "tiny.yaml", "--executor", "ray", "--workers", "1", "--json", "--no-models", folder=folder)
    assert 0 == done.code, done.err
    assert 2 == json.loads(done.out)["executed"]
    assert "ray" not in done.err.lower()
    assert [] == list(folder.rglob("MLmodel"))


@pytest.mark.slow
def test_a_run_prints_on_any_terminal_and_leaves_nothing_in_the_home_folder(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    done = fedbench("run", "tiny.yaml", "--no-models", folder=folder, PYTHONIOENCODING="ascii", HOME=str(home))
    assert 0 == done.code, done.err
    assert "accuracy" in done.out
    assert [] == list(home.iterdir())
