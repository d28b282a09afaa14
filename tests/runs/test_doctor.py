"""The doctor finds what keeps runs from working, and never raises."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbench.runs import doctor
from fedbench.runs.doctor import Finding, examine


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    folder = tmp_path_factory.mktemp("doctor")
    return {each.check: each for each in examine(folder / "data", f"sqlite:///{folder}/mlflow.db")}


def test_a_sound_machine_fails_no_check(healthy: dict[str, Finding]) -> None:
    assert [] == [finding for finding in healthy.values() if finding.status == "failed"]
    assert {"fedbench", "packages", "processor", "kernels", "training", "suites", "tracking store"} <= set(healthy)


def test_a_missing_dataset_is_a_note_with_the_command(healthy: dict[str, Finding]) -> None:
    assert "ok" == healthy["dataset mnist-5k"].status
    assert ("note", "not present; to download it: fedbench data fetch mnist") == (
        healthy["dataset mnist"].status,
        healthy["dataset mnist"].text,
    )


def test_every_shipped_suite_is_read(healthy: dict[str, Finding]) -> None:
    assert {"quickstart", "sanity"} <= set(healthy["suites"].text.split(", "))


def test_a_store_that_cannot_be_opened_is_a_failed_check_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("These are my notes.")
    findings = {each.check: each for each in examine(tmp_path / "data", f"sqlite:///{tmp_path}/mlflow.db")}
    assert "failed" == findings["tracking store"].status
    assert "is not a SQLite database: choose another with --tracking-uri" in findings["tracking store"].text
    assert "ok" == findings["training"].status


def test_a_missing_package_is_a_failed_check_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    finding = doctor._found("packages", doctor._packages)
    assert "failed" == finding.status
    assert "missing: no-such-package" in finding.text


def test_a_check_that_breaks_is_a_finding() -> None:
    def breaks() -> Finding:
        raise OSError("bad\nsector")

    assert Finding("disk", "failed", "OSError: bad sector") == doctor._found("disk", breaks)
