"""The file of a baseline: what it contains, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_records import TEXT, made_baseline, made_cell, made_suite

from fedbench.gate.baseline import (
    CellRecord,
    new_baseline,
    read_baseline,
    require_comparable,
    require_data,
)
from fedbench.gate.files import write_stored
from fedbench.measures import Verdict
from fedbench.suites.fields import IMPLIED
from fedbench.suites.schema import Suite
from fedbench.util.errors import BaselineError


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return made_suite(tmp_path)


@pytest.fixture
def path(tmp_path: Path, suite: Suite) -> Path:
    path = tmp_path / "baselines" / "made.json"
    write_stored(path, made_baseline(suite))
    return path


def test_what_is_written_can_be_read(path: Path, suite: Suite) -> None:
    assert made_baseline(suite) == read_baseline(path, "made")


def test_another_number_is_a_small_diff(path: Path, suite: Suite) -> None:
    before = path.read_text().splitlines()
    cells = [made_cell(cell, dict.fromkeys(suite.seeds, 0.9)) for cell in suite.cells]
    cells[1] = made_cell(suite.cells[1], {0: 0.8, 1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9})
    write_stored(path, made_baseline(suite, *cells))
    after = path.read_text().splitlines()
    assert 2 == sum(one != other for one, other in zip(before, after, strict=True))  # its line and the checksum


def test_models_that_collapsed_or_diverged_are_kept_only_if_the_user_says_so(suite: Suite) -> None:
    sound, dead = made_baseline(suite).cells
    verdicts = (Verdict.COLLAPSED, Verdict.OK, Verdict.DIVERGED, Verdict.COLLAPSED, Verdict.BELOW_MAJORITY)
    records = zip(dead.seeds, verdicts, strict=True)
    seeds = tuple(record.model_copy(update={"verdict": verdict}) for record, verdict in records)
    cells = (sound, dead.model_copy(update={"seeds": seeds}))
    named = r"diverged: grid num_clients=3 \(collapsed in 2, diverged in 1 of 5 seeds\): .* --allow-collapsed$"
    with pytest.raises(BaselineError, match=named):
        new_baseline(suite, cells, "cpu", None, None)
    assert cells == new_baseline(suite, cells, "cpu", None, None, allow_collapsed=True).cells


def test_a_missing_baseline_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"there is no .*made.json: make it with fedbench baseline made"):
        read_baseline(tmp_path / "made.json", "made")


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda content: content.update(format=2), "has format 2, this fedbench reads 1"),
        (lambda content: content.pop("format"), "is no baseline"),
        (lambda content: content.pop("cells"), "cells: Field required"),
        (lambda content: content.update(cells=[]), "cells: .*at least 1 item"),
        (lambda content: content.update(history=[]), "history: .*at least 1 item"),
        (lambda content: content.update(margin="wide"), "margin: Input should be a valid number"),
        (lambda content: content.update(margin=0), "margin: Input should be greater than 0"),
        (
            lambda content: content.update(metric="speed"),
            "metric: unknown metric 'speed'; choose from accuracy, balanced_accuracy",
        ),
        (lambda content: content.update(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda content: content["cells"][0]["seeds"][0].update(verdict="fine"), r"cells.0.seeds.0.verdict: "),
        (lambda content: content["cells"][0]["seeds"][0].update(seed=7), "was changed by hand"),
        (lambda content: content.update(checksum="0"), "was changed by hand"),
        (lambda content: content.pop("checksum"), "was changed by hand"),
    ],
)
def test_invalid_content_is_refused(path: Path, edit: Callable[[dict[str, Any]], object], said: str) -> None:
    change(path, edit)
    with pytest.raises(BaselineError, match=said) as error:
        read_baseline(path, "made")
    assert "\n" not in str(error.value)
    assert "fedbench baseline made" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'{"format": 1}'])
def test_other_files_are_refused_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BaselineError) as error:
        read_baseline(path, "made")
    assert "\n" not in str(error.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read"):
        read_baseline(tmp_path, "made")


def test_the_baseline_of_another_suite_is_refused(path: Path) -> None:
    with pytest.raises(BaselineError, match="is the baseline of suite made, not of other"):
        read_baseline(path, "other")


def test_a_baseline_with_the_cells_and_seeds_of_the_suite_is_accepted(suite: Suite) -> None:
    require_comparable(made_baseline(suite), suite, False, Path("made.json"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rounds: 2", "rounds: 3", "has another spec: cell grid num_clients=2 has rounds 3, was 2"),
        ("[2, 3]", "[2, 3, 5]", "lacks cell grid num_clients=5 of the suite"),
        ("[2, 3]", "[4, 5]", r"lacks cell grid num_clients=4 \(and 1 more\) of the suite"),
        ("[2, 3]", "[2]", "has cell grid num_clients=3, which the suite lacks"),
        ("[0, 1, 2, 3, 4]", "[0, 1, 7]", "lacks seed 7 of cell grid num_clients=2"),
    ],
)
def test_a_changed_suite_is_refused(tmp_path: Path, suite: Suite, before: str, after: str, said: str) -> None:
    changed = made_suite(tmp_path, TEXT.replace(before, after))
    with pytest.raises(BaselineError, match=said):
        require_comparable(made_baseline(suite), changed, False, Path("made.json"))


def test_other_seeds_are_accepted_if_the_user_chose_them(tmp_path: Path, suite: Suite) -> None:
    changed = made_suite(tmp_path, TEXT.replace("[0, 1, 2, 3, 4]", "[7, 8]"))
    require_comparable(made_baseline(suite), changed, True, Path("made.json"))


def test_a_baseline_of_another_revision_of_the_algorithm_is_refused(suite: Suite) -> None:
    older = made_baseline(suite).model_copy(update={"revision": 1})
    with pytest.raises(BaselineError, match="has revision 1 of the algorithm"):
        require_comparable(older, suite, False, Path("made.json"))


def test_a_baseline_of_other_data_is_refused(suite: Suite) -> None:
    baseline = made_baseline(suite)
    now = [record.model_copy(update={"data": "d2"}) for record in baseline.cells]
    with pytest.raises(BaselineError, match="was made with other data of mnist-5k"):
        require_data(baseline, now, Path("made.json"))


def test_a_spec_may_lack_a_field_that_is_newer_than_the_file(suite: Suite) -> None:
    """The field's default is what the file's runs had."""
    baseline, cell = made_baseline(suite), suite.cells[0]
    content = baseline.cells[0].model_dump(mode="json")
    for field in ("interpolation", *IMPLIED):  # options too
        del content["spec"][field]
    older = baseline.model_copy(
        update={"cells": (CellRecord.model_validate(content | {"seeds": baseline.cells[0].seeds}),)}
    )
    assert older.of(cell) is not None
    for changed in ({"interpolation": True}, {"momentum": 0.9}, {"aggregation": "median"}):
        assert older.of(cell.model_copy(update={"spec": cell.spec.replace(changed)})) is None
