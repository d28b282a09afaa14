"""The action for other repositories: its shell steps, run as GitHub runs them, with commands that note their arguments.

It has not been run on GitHub.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_repository import commit, git, made_repository

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
SCRIPTS = [step for step in ACTION["runs"]["steps"] if "run" in step]
NOTED = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$NOTES"
"""
FEDBENCH = """
if [ "$1" = check ]; then
    while [ $# -gt 1 ]; do if [ "$1" = --markdown ]; then echo "### digits: failed" > "$2"; fi; shift; done
    exit "$EXIT_CODE"
fi
"""
GH = """
for each in "$@"; do if [[ $each == body=@* ]]; then cat "${each#body=@}" >> "$NOTES"; fi; done
if [ "$2" = --paginate ]; then echo "$COMMENTS"; fi
exit "$GH_CODE"
"""


@dataclass
class Runner:
    """A machine of GitHub's, in a pull request or another event."""

    folder: Path
    checkout: Path
    event: dict[str, Any]
    variables: dict[str, str] = field(default_factory=lambda: {"EXIT_CODE": "1", "GH_CODE": "0", "COMMENTS": ""})

    def run(self, **inputs: str) -> list[int]:
        """Run the shell steps; their exit codes. A step without `if` is skipped after one that failed."""
        given = {name: each["default"] for name, each in ACTION["inputs"].items()} | inputs
        contexts: dict[str, Any] = {"inputs": given, "github": {"event": self.event, "token": "secret"}, "steps": {}}
        codes: list[int] = []
        for step in SCRIPTS:
            if any(codes) and "if" not in step:
                continue
            output = self.folder / "output"
            output.write_text("")
            environment = {name: evaluated(text, contexts) for name, text in step["env"].items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],  # noqa: S607 - as GitHub does
                cwd=self.checkout,
                env=self.environment | environment | {"GITHUB_OUTPUT": str(output)},
                capture_output=True,
                text=True,
                check=False,
            )
            self.printed = done.stdout + done.stderr
            codes.append(done.returncode)
            if "id" in step:
                found = dict(line.split("=", 1) for line in output.read_text().splitlines())
                contexts["steps"][step["id"]] = {"outputs": found}
        return codes

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "NOTES": str(self.folder / "notes"),
            "RUNNER_TEMP": str(self.folder / "temporary"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_ACTION_PATH": "/action",
            "GITHUB_REPOSITORY": "me/mine",
            "GITHUB_JOB": "gate",
            **self.variables,
        }

    @property
    def notes(self) -> list[str]:
        return (self.folder / "notes").read_text().splitlines()


def evaluated(text: str, contexts: dict[str, Any]) -> str:
    """A text with its expressions: the first of several paths that has a value."""

    def value(path: str) -> str:
        found: Any = contexts
        for name in path.strip().split("."):
            found = (found or {}).get(name)
        return "" if found is None else str(found)

    def first(match: re.Match[str]) -> str:
        return next(filter(None, map(value, match[1].split("||"))), "")

    return re.sub(r"\$\{\{(.*?)\}\}", first, text)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """A checkout of one commit of a repository with three, whose first is the pull request's base."""
    origin = tmp_path / "origin"
    made_repository(origin)
    base = git(origin, "rev-parse", "HEAD")
    for number in (2, 3):
        (origin / "change").write_text(str(number))
        commit(origin)
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{origin}", "checkout")
    for name, more in {"python": "", "fedbench": FEDBENCH, "gh": GH}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(NOTED + more)
        program.chmod(0o755)
    return Runner(tmp_path, tmp_path / "checkout", {"pull_request": {"number": 7, "base": {"sha": base}}})


def test_a_pull_request_is_checked_against_its_base_and_gets_a_comment(runner: Runner) -> None:
    assert [0, 1, 0] == runner.run(suite="suites/digits.yaml", fetch="mnist ham10000", install="--requirement own.txt")
    base, folder = runner.event["pull_request"]["base"]["sha"], runner.folder / "temporary/fedbench-gate-digits"
    install, own, mnist, ham10000, check, find, write, *comment = runner.notes
    assert "python -m pip install --quiet --constraint /action/constraints.txt /action" == install
    assert "python -m pip install --quiet --requirement own.txt" == own
    assert ["fedbench data fetch mnist", "fedbench data fetch ham10000"] == [mnist, ham10000]
    assert f"suites/digits.yaml --speed --against {base} --no-log --markdown {folder}/gate.md" in check
    assert find.startswith("gh api --paginate repos/me/mine/issues/7/comments --jq ")
    assert write.startswith("gh api repos/me/mine/issues/7/comments --silent ")
    assert ["<!-- fedbench-gate-digits -->", "### digits: failed"] == comment
    assert "### digits: failed\n" == (runner.folder / "summary").read_text()


def test_the_comment_is_kept_up_to_date_and_a_fork_gets_none(runner: Runner) -> None:
    runner.variables |= {"EXIT_CODE": "0", "COMMENTS": "41\n42"}
    assert [0, 0, 0] == runner.run(suite="digits", against="none", options="--strict --margin 0.02")
    check, _, write, *_ = runner.notes[1:]
    assert check.startswith("fedbench check --strict --margin 0.02 digits --no-log --markdown ")
    assert write.startswith("gh api repos/me/mine/issues/comments/41 --method PATCH --silent ")
    runner.variables["GH_CODE"] = "1"
    assert [0, 0, 0] == runner.run(suite="digits")
    assert "::notice::the result is not in a comment" in runner.printed


def test_outside_a_pull_request_a_branch_is_fetched_and_the_check_is_recorded_with_its_history(runner: Runner) -> None:
    runner.event = {}
    inputs = {"against": "main", "tracking-uri": "https://mlflow.example.org", "requirement": "fedbench-mlflow==1 x"}
    git(runner.checkout, "checkout", "--quiet", "-B", "other")
    git(runner.checkout, "branch", "--delete", "--force", "main")
    assert [0, 1, 0] == runner.run(**inputs)
    head = git(runner.checkout, "rev-parse", "HEAD")
    install, check = runner.notes
    assert install.endswith("/action/constraints.txt fedbench-mlflow==1 x")
    assert f"check --speed --against {head} --tracking-uri https://mlflow.example.org --markdown " in check
    assert "3" == git(runner.checkout, "rev-list", "--count", "HEAD")


def test_a_revision_that_is_not_there_fails_and_shows_nothing(runner: Runner) -> None:
    code = runner.run(suite="digits", against="nosuch")
    assert (0, True, 0) == (code[0], code[1] > 0, code[2])
    assert 1 == len(runner.notes)  # the installation


def test_the_page_of_the_gate_names_every_input() -> None:
    _, _, table = (ROOT / "docs/how-to/gate.md").read_text().partition("| input | what |\n")
    assert list(ACTION["inputs"]) == re.findall(r"^\| `([\w-]+)` \|", table.partition("\n\n")[0], re.MULTILINE)


def test_shellcheck_finds_nothing_in_the_steps(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.sh" for number, _ in enumerate(SCRIPTS)]
    for file, step in zip(files, SCRIPTS, strict=True):
        file.write_text(f"# shellcheck shell=bash\nset -eo pipefail\n{step['run']}")
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *files], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout
