"""The command as a user meets it: exit codes, one line for every error, and what goes on which stream."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from command import Done, fedbench_here
from needed import needs
from ray_nodes import why_no_ray

PACKAGE = Path(__file__).parents[2]
SUITE = """
name: tiny
question: Does the command work?
seeds: [0, 1]
defaults: {examples_per_client: 20, rounds: 2, local_epochs: 1}
scenarios:
  - {name: pair}
  - {name: large, examples_per_client: 9000}
"""
LONG = """
name: long
question: Does it go on after an interruption?
seeds: [0, 1, 2]
scenarios: [{name: pair, examples_per_client: 20, rounds: 10, local_epochs: 1}]
"""


def environment(**changes: str) -> dict[str, str]:
    hidden = ("FEDBENCH_DATA_DIR", "FEDBENCH_MIRROR", "MLFLOW_TRACKING_URI", "FEDBENCH_DEBUG")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"PYTHONPATH": str(PACKAGE), "COLUMNS": "100"} | changes


def fedbench(*arguments: str, folder: Path, **changes: str) -> Done:
    """Run a command as a process; `fedbench_here` is for what does not need one."""
    command = [sys.executable, "-m", "fedbench", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr + done.stdout
    return Done(done.returncode, done.stdout, done.stderr)


def processor_seconds(*arguments: str, folder: Path) -> float:
    """The user and system time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    fedbench(*arguments, folder=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def complaint(done: Done) -> str:
    """The one line of an error."""
    assert (2, "") == (done.code, done.out)
    assert re.fullmatch(r"fedbench: error: [^\n]+\n", done.err), done.err
    return done.err.strip().removeprefix("fedbench: error: ")


def notices(done: Done) -> list[str]:
    """What was said on standard error beside the progress, which a slow machine shows."""
    return [line for line in done.err.splitlines() if not re.fullmatch(r"[\w-]+: \d+/\d+ runs \(.* s left\).*", line)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    return tmp_path


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], r"No such command 'rum'.*\(see: fedbench --help\)"),
        (["run"], r"Missing argument 'SUITE'.*\(see: fedbench run --help\)"),
        (["run", "quickstrat"], r"unknown suite 'quickstrat'; did you mean quickstart\?.*or give the path"),
        (["run", "nowhere/suite.yaml"], r"nowhere/suite\.yaml: "),
        (["run", "tiny.yaml", "--set", "round=3"], r"--set: unknown field 'round'; did you mean rounds\?"),
        (["run", "tiny.yaml", "--set", "rounds=many"], r"--set: rounds is 'many'; it must be a whole number"),
        (["run", "tiny.yaml", "--seeds", "a,b"], r"--seeds: 'a,b' is not a list of seeds; write 0,1,2 or 0-4"),
        (["run", "tiny.yaml", "--only", "pear"], r"--only: unknown scenario 'pear'; did you mean pair\?"),
        (
            ["run", "tiny.yaml", "--workers", "two"],
            r"Invalid value for '--workers': .*integer.*\(see: fedbench run --help\)",
        ),
        (["run", "tiny.yaml", "--workers", "0"], r"Invalid value for '--workers': .*1 \(see: fedbench run --help\)"),
        (["run", "tiny.yaml", "--nosuch"], r"No such option: --nosuch"),
        (["data", "fetch", "minst"], r"unknown dataset 'minst'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], message: str) -> None:
    assert re.search(message, complaint(fedbench_here(*arguments, folder=folder)))
    assert ["tiny.yaml"] == [path.name for path in folder.iterdir()]


def test_an_error_in_a_suite_file_names_file_field_value_and_remedy(folder: Path) -> None:
    (folder / "wrong.yaml").write_text(SUITE.replace("rounds: 2", "rounds: 0"))
    line = complaint(fedbench("run", "wrong.yaml", folder=folder))
    assert "wrong.yaml: defaults: rounds is 0; it must be at least 1" == line


def test_a_store_that_cannot_be_opened_is_one_line(folder: Path) -> None:
    done = fedbench_here("run", "tiny.yaml", "--tracking-uri", "sqlite:///tiny.yaml", folder=folder)
    assert "tracking store sqlite:///tiny.yaml is not a SQLite database" in complaint(done)
    assert SUITE == (folder / "tiny.yaml").read_text()


def test_missing_data_is_one_line_that_says_how_to_bring_it(folder: Path) -> None:
    done = fedbench_here("run", "tiny.yaml", "--only", "pair", "--set", "dataset=mnist", folder=folder)
    assert "fedbench data fetch mnist" in complaint(done)


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_without_a_command_the_help_is_shown_and_nothing_else(folder: Path, arguments: list[str]) -> None:
    done = fedbench_here(*arguments, folder=folder)
    assert 2 == done.code
    assert "Usage: fedbench" in done.out + done.err
    assert "error:" not in done.out + done.err


# Quick answers


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "wrong.yaml"]])
def test_an_answer_that_needs_no_computing_takes_under_half_a_second_of_processor_time(
    folder: Path, arguments: list[str]
) -> None:
    (folder / "wrong.yaml").write_text("name: 3")
    times = [processor_seconds(*arguments, folder=folder) for _ in range(2)]
    assert min(times) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["run", "wrong.yaml"], ["suites"], ["suites", "tiny.yaml"], ["data", "list"]],
)
def test_an_answer_that_needs_no_computing_imports_neither_torch_nor_mlflow(folder: Path, arguments: list[str]) -> None:
    (folder / "wrong.yaml").write_text("name: 3")
    script = (
        "import sys\n"
        "from fedbench.cli.app import main\n"
        f"sys.argv = ['fedbench', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "print('imported:', sorted({'torch', 'mlflow', 'pandas', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    assert "imported: []" == done.stdout.splitlines()[-1]


def test_every_command_has_help_with_an_example(folder: Path) -> None:
    for command in (["run"], ["suites"], ["ui"], ["doctor"], ["data", "list"], ["data", "fetch"], ["data", "verify"]):
        done = fedbench_here(*command, "--help", folder=folder)
        assert 0 == done.code
        assert f"Example: fedbench {' '.join(command)}" in done.out, command


def test_the_version_is_printed(folder: Path) -> None:
    assert re.fullmatch(r"fedbench \d+\.\d+\.\d+\n", fedbench("--version", folder=folder).out)


# Listings


def test_suites_are_listed_with_their_questions_and_sizes(folder: Path) -> None:
    done = fedbench_here("suites", folder=folder)
    assert 0 == done.code
    assert "quickstart" in done.out
    assert "client-grid-mnist" in done.out
    listed = json.loads(fedbench_here("suites", "--json", folder=folder).out)["suites"]
    assert {"quickstart", "sanity"} <= {suite["suite"] for suite in listed}


def test_one_suites_cells_are_listed(folder: Path) -> None:
    done = fedbench_here("suites", "tiny.yaml", folder=folder)
    assert 0 == done.code
    assert "Does the command work?" in done.out
    assert "pair" in done.out
    found = json.loads(fedbench_here("suites", "tiny.yaml", "--json", folder=folder).out)
    assert ("tiny", 4, ["pair", "large"]) == (found["suite"], found["runs"], [cell["label"] for cell in found["cells"]])


def test_datasets_are_listed_and_nothing_is_written(folder: Path) -> None:
    done = fedbench_here("data", "list", "--json", folder=folder)
    listed = {each["name"]: each for each in json.loads(done.out)["datasets"]}
    assert (0, True, False) == (done.code, listed["mnist-5k"]["present"], listed["mnist"]["present"])
    assert {"stratified": {"train": 4000, "test": 1000}} == listed["mnist-5k"]["splits"]
    assert "fedbench data fetch mnist" == listed["mnist"]["command"]
    assert ["tiny.yaml"] == [path.name for path in folder.iterdir()]


def test_verifying_data_that_is_not_there_says_so_with_exit_code_1(folder: Path) -> None:
    assert (0, "mnist-5k: all files are present and intact\n") == (
        (done := fedbench_here("data", "verify", "mnist-5k", folder=folder)).code,
        done.out,
    )
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
    (folder / "tiny.yaml").write_text(SUITE)
    return folder, fedbench("run", "tiny.yaml", "--workers", "1", "--json", folder=folder)


def test_a_run_prints_one_json_object_on_standard_output(ran: tuple[Path, Done]) -> None:
    _, done = ran
    found = json.loads(done.out)
    counts = ("suite", "executed", "skipped", "failed", "left")
    assert (0, "tiny", 2, 2, 0, 0) == (done.code, *(found[key] for key in counts))
    assert [("pair", [0, 1]), ("large", [])] == [(cell["scenario"], cell["seeds"]) for cell in found["cells"]]
    assert 0.1 == found["cells"][0]["majority_rate"]["mean"]


def test_a_run_writes_in_mlruns_only(ran: tuple[Path, Done]) -> None:
    folder, _ = ran
    assert {"tiny.yaml", "mlruns"} == {path.name for path in folder.iterdir()}
    assert {"mlflow.db", "artifacts", "checkpoints"} == {path.name for path in (folder / "mlruns").iterdir()}
    assert [] == list((folder / "mlruns" / "checkpoints").iterdir())


def test_the_same_command_again_skips_what_is_finished_and_shows_the_same_table_of_results(
    ran: tuple[Path, Done],
) -> None:
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
    assert "1 runs executed, 1 failed." in done.out


# Interruption


def select(folder: Path, query: str) -> list[str]:
    """Ask the store without MLflow, which would make it while the command makes it."""
    path = folder / "mlruns" / "mlflow.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return sorted(value for (value,) in connection.execute(query))
        except sqlite3.OperationalError:  # there is no such table yet
            return []


RUNS = """
    FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'fedbench.kind' AND tags.value = 'run'
    WHERE runs.lifecycle_stage = 'active'
"""


def statuses(folder: Path) -> list[str]:
    """Of the seeds' runs, without those of cells."""
    return select(folder, f"SELECT status {RUNS}")


def run_ids(folder: Path) -> list[str]:
    return select(folder, f"SELECT runs.run_uuid {RUNS}")


def second_run_is_under_way(folder: Path) -> bool:
    return {"FINISHED", "RUNNING"} == set(statuses(folder))


def owned_runs(folder: Path) -> int:
    """How many runs a process works on; that it owns one is the last that is written at a run's start."""
    query = "SELECT run_uuid FROM tags WHERE key LIKE 'fedbench.claim.%' AND value LIKE '%\"owned\"%'"
    return len(select(folder, query))


def checkpoints(folder: Path) -> list[Path]:
    """Of the runs that a process trains: there is one after the first round."""
    return list((folder / "mlruns" / "checkpoints").glob("*.ckpt"))


def two_runs_are_under_way(folder: Path) -> bool:
    return 2 == owned_runs(folder)


def the_store_is_half_made(folder: Path) -> bool:
    path = folder / "mlruns" / "mlflow.db"
    return path.exists() and path.stat().st_size > 0


def wait_until_gone(group: int) -> None:
    """Wait for the end of every process of a group; 30 seconds at most."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the command left a process behind")


def interrupted(
    folder: Path,
    *arguments: str,
    when: Callable[[Path], bool],
    number: int = signal.SIGINT,
    group: bool = False,
    **changes: str,
) -> Done:
    """Start a command, send it a signal once `when` says so, and wait for its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fedbench", *arguments],
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not when(folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, err
    wait_until_gone(process.pid)
    return Done(process.returncode, out, err)


def test_an_interrupted_run_says_how_to_go_on_and_the_same_command_does(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    command = ("run", "long.yaml", "--workers", "1")
    done = interrupted(tmp_path, *command, when=second_run_is_under_way)
    assert 130 == done.code
    lines = [line for line in done.err.splitlines() if line]
    assert 1 == len(lines), done.err
    assert re.fullmatch(r"fedbench: interrupted: [12] of 3 runs are finished; the same command resumes", lines[0])
    finished = int(lines[0].split()[2])
    assert ["FINISHED"] * finished + ["KILLED"] * (finished < 3) == statuses(tmp_path)
    before = run_ids(tmp_path)

    again = json.loads(fedbench_here(*command, "--json", folder=tmp_path).out)
    assert (3 - finished, finished, 0) == (again["executed"], again["skipped"], again["failed"])
    assert [0, 1, 2] == again["cells"][0]["seeds"]
    assert ["FINISHED"] * 3 == statuses(tmp_path)
    assert set(before) <= set(run_ids(tmp_path))  # the run that was cut off went on; it was not run as another one


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_the_command_that_is_interrupted(tmp_path: Path, number: int) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 100"))

    done = interrupted(
        tmp_path, "run", "long.yaml", "--workers", "2", when=two_runs_are_under_way, number=number, group=True
    )
    assert 130 == done.code
    assert 1 == len([line for line in done.err.splitlines() if line]), done.err
    assert ["KILLED", "KILLED"] == statuses(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_command_that_trains_ends_within_a_second_of_ctrl_c_and_says_how_to_go_on(
    tmp_path: Path, workers: str
) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 5000"))
    seconds = []
    for _ in range(2):  # the machine may have been busy once
        process = subprocess.Popen(
            [sys.executable, "-m", "fedbench", "run", "long.yaml", "--workers", workers],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda: owned_runs(tmp_path) == len(checkpoints(tmp_path)) == int(workers), seconds=120)
        start = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        seconds.append(time.monotonic() - start)
        wait_until_gone(process.pid)
        line = "fedbench: interrupted: 0 of 3 runs are finished; the same command resumes"
        assert (130, line) == (process.returncode, err.splitlines()[-1]), err
        assert ["KILLED"] * int(workers) == statuses(tmp_path)
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1, f"{seconds} s with {workers} workers"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_after_the_command_was_killed_outright_the_same_command_takes_its_runs_up(tmp_path: Path, workers: str) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 30"))
    command = ("run", "long.yaml", "--workers", workers, "--no-models")
    done = interrupted(
        tmp_path,
        *command,
        when=lambda folder: len(checkpoints(folder)) == int(workers),
        number=signal.SIGKILL,
        group=True,
    )
    assert -signal.SIGKILL == done.code
    assert ["RUNNING"] * int(workers) == statuses(tmp_path)
    before = run_ids(tmp_path)
    again = fedbench_here(*command, "--json", folder=tmp_path)
    found = json.loads(again.out)
    assert (0, []) == (again.code, notices(again))
    assert (3, 0, 0, 0) == tuple(found[key] for key in ("executed", "skipped", "failed", "left"))
    assert ["FINISHED"] * 3 == statuses(tmp_path)
    assert set(before) <= set(run_ids(tmp_path))
    steps = select(tmp_path, "SELECT run_uuid || ' ' || step FROM metrics WHERE key = 'accuracy'")
    assert (90, 90) == (len(steps), len(set(steps)))  # each round once
    assert [] == list((tmp_path / "mlruns" / "checkpoints").iterdir())


@pytest.mark.slow
def test_two_commands_at_once_share_the_runs_of_a_suite_and_each_is_recorded_once(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("[0, 1, 2]", "[0, 1, 2, 3, 4, 5]"))
    command = [sys.executable, "-m", "fedbench", "run", "long.yaml", "--workers", "1", "--json", "--no-models"]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    found = [json.loads(process.communicate(timeout=180)[0]) for process in processes]
    assert [0, 0] == [process.returncode for process in processes]
    assert 6 == sum(each["executed"] for each in found)
    assert [6, 6] == [each["executed"] + each["skipped"] + each["left"] for each in found]
    assert ["FINISHED"] * 6 == statuses(tmp_path)
    of_cells = RUNS.replace("tags.value = 'run'", "tags.value = 'cell'")
    assert ["FINISHED"] == select(tmp_path, f"SELECT status {of_cells}")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.7, 1.5, 3.0])
def test_an_interruption_while_the_command_starts_is_quiet(tmp_path: Path, seconds: float) -> None:
    """After so many seconds of a processor: how far it is then does not depend on what else the machine does."""
    (tmp_path / "long.yaml").write_text(LONG.replace("rounds: 10", "rounds: 1000"))
    mark = str(tmp_path / "mark")
    done = interrupted(
        tmp_path,
        *("run", "long.yaml", "--workers", "2"),
        when=lambda _: used_seconds(mark) > seconds,
        group=True,
        FEDBENCH_TEST=mark,
    )
    assert 130 == done.code, done.err
    assert len(done.err.split("\n")) <= 3, done.err
    assert "RUNNING" not in statuses(tmp_path)


@pytest.mark.slow
def test_a_store_whose_making_was_interrupted_is_made_by_the_next_command(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    command = ("run", "long.yaml", "--workers", "1", "--seeds", "0", "--set", "rounds=1")
    assert 130 == interrupted(tmp_path, *command, when=the_store_is_half_made).code
    again = fedbench_here(*command, folder=tmp_path)
    assert (0, []) == (again.code, notices(again))


@pytest.mark.slow
def test_two_commands_may_make_the_store_at_once(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    one_round = ("--workers", "1", "--set", "rounds=1", "--no-models", "--seeds")
    command = [sys.executable, "-m", "fedbench", "run", "long.yaml", *one_round]
    processes = [
        subprocess.Popen([*command, seed], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL) for seed in "01"
    ]
    assert [0, 0] == [process.wait(timeout=120) for process in processes]
    assert ["FINISHED"] * 2 == statuses(tmp_path)


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    command = [sys.executable, "-m", "fedbench", "suites", "--json"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "" == process.stderr.read()
    process.stderr.close()
    assert 1 == process.wait(timeout=30)


# What an adversary found


def test_brackets_in_a_suites_question_and_path_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a[b].yaml").write_text(re.sub("question: .*", 'question: "Is [/b] or [red] :smile:?"', SUITE))
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


def test_an_unknown_dataset_to_verify_is_bad_input(tmp_path: Path) -> None:
    assert "unknown dataset 'foo'" in complaint(fedbench_here("data", "verify", "foo", folder=tmp_path))


@pytest.mark.parametrize(
    "uri",
    ["postgresql://user:secret@127.0.0.1:1/x", "http://user:secret@127.0.0.1:1", "postgresql://user:secret@[::1:p/x"],
)
def test_a_store_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path, uri: str) -> None:
    message = complaint(fedbench_here("run", "quickstart", "--tracking-uri", uri, folder=tmp_path))
    assert "secret" not in message
    assert "--tracking-uri" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--address", "10.0.0.5:6379"), "--address and the --...-per-run options need --executor ray"),
        (("--gpus-per-run", "1"), "--address and the --...-per-run options need --executor ray"),
        (("--executor", "ray", "--profile"), "--profile records this process: leave out --executor ray"),
        (("--executor", "ray", "--device", "mps"), "the nodes of a cluster have cpu and cuda"),
        (("--executor", "ray", "--device", "cuda", "--gpus-per-run", "0"), "do not go together"),
    ],
)
def test_options_of_a_cluster_that_do_not_fit_are_one_line(folder: Path, options: tuple[str, ...], words: str) -> None:
    assert words in complaint(fedbench_here("run", "tiny.yaml", *options, folder=folder))


@pytest.mark.slow
@needs(why_no_ray())
def test_a_run_on_a_ray_of_this_machine_prints_nothing_but_its_results(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    done = fedbench("run", "tiny.yaml", "--executor", "ray", "--workers", "1", "--json", "--no-models", folder=tmp_path)
    assert 0 == done.code, done.err
    assert 2 == json.loads(done.out)["executed"]
    assert "ray" not in done.err.lower()
    assert [] == list(tmp_path.rglob("MLmodel"))


@pytest.mark.slow
def test_a_run_prints_on_any_terminal_and_leaves_nothing_in_the_home_folder(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    done = fedbench("run", "tiny.yaml", "--no-models", folder=folder, PYTHONIOENCODING="ascii", HOME=str(home))
    assert 0 == done.code, done.err
    assert "accuracy" in done.out
    assert [] == list(home.iterdir())


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed_in_the_middle_of_a_round(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(LONG.replace("local_epochs: 1}", "local_epochs: 1000000}"))
    mark = str(tmp_path / "mark")
    command = [sys.executable, "-m", "fedbench", "run", "long.yaml", "--workers", "2"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(FEDBENCH_TEST=mark), stderr=subprocess.DEVNULL
    ) as parent:
        wait_for(lambda: two_runs_are_under_way(tmp_path))
        parent.kill()
    wait_for(lambda: not processes_with(mark))


def used_seconds(mark: str) -> float:
    """Of the processor, by the processes that have `mark` in their environment."""
    seconds = 0.0
    for process in processes_with(mark):
        with suppress(psutil.Error):  # it has ended
            seconds += sum(psutil.Process(int(process.name)).cpu_times()[:2])
    return seconds


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def processes_with(mark: str) -> list[Path]:
    """The processes that have `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours to look at
            if mark in (process / "environ").read_text(errors="replace"):
                found.append(process)
    return found
