"""Optuna's own page opens a study's storage."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from browser import free_port
from tiny_study import computed, storage_in, tiny_plan

PATIENCE = 60  # seconds until the page answers


def read(address: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the API answers, once it does."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine needs no proxy
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with opener.open(address, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except URLError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.slow
def test_the_dashboard_shows_a_study_and_its_trials(tmp_path: Path) -> None:
    trials = computed(tiny_plan(tmp_path, trials=3), storage_in(tmp_path))
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    with subprocess.Popen([program, storage_in(tmp_path), "--port", str(port), "--quiet"], cwd=tmp_path) as process:
        try:
            (study,) = read(f"http://127.0.0.1:{port}/api/studies", process)["study_summaries"]
            detail = read(f"http://127.0.0.1:{port}/api/studies/{study['study_id']}", process)
        finally:
            process.terminate()
    assert study["study_name"].startswith("tiny.pair accuracy ")
    assert [[trial.value] for trial in trials] == [trial["values"] for trial in detail["trials"]]
    names = {each["name"] for each in detail["union_search_space"]}
    assert {"learning_rate", "local_epochs"} == names
