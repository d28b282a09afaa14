"""The key `contrast` of a suite file: what it means, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedbench.suites.contrast import ContrastMeasure, ContrastSpec, read_contrast
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import Suite
from fedbench.util.errors import SuiteError

SCENARIOS = [{"name": "one", "num_clients": [2, 3]}, {"name": "two", "learning_rate": 0.1}]


def load(folder: Path, contrast: object, **options: object) -> Suite:
    path = folder / "suite.yaml"
    content = {"name": "s", "question": "q?", "seeds": [0], "scenarios": SCENARIOS, "contrast": contrast}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_suite(path, **options)  # type: ignore[arg-type]


def test_it_is_read_with_its_defaults(tmp_path: Path) -> None:
    given = {"axes": ["num_clients", "scenario"], "measure": "loss"}
    expected = ContrastSpec(axes=("num_clients", "scenario"), measure=ContrastMeasure.LOSS)
    assert expected == load(tmp_path, given).contrast == read_contrast(str(tmp_path / "suite.yaml"))
    assert ContrastSpec() == load(tmp_path, None).contrast == load(tmp_path, {}).contrast
    assert ContrastSpec(axes=()) == load(tmp_path, {"axes": []}).contrast


def test_it_is_about_the_file_and_not_about_what_the_command_line_changes(tmp_path: Path) -> None:
    changed = load(tmp_path, {"axes": ["num_clients"]}, only=["two"], overrides={"num_clients": 4})
    assert ("num_clients",) == changed.contrast.axes


def test_a_suite_without_a_file_says_nothing() -> None:
    assert read_contrast("of-another-machine") is None


@pytest.mark.parametrize(
    ("contrast", "message"),
    [
        ([], "contrast is []; it must be a mapping of axes, measure"),
        ("init", "contrast is 'init'; it must be a mapping of axes, measure"),
        ({"axis": []}, "contrast: unknown key 'axis'; did you mean axes?"),
        ({"axes": "num_clients"}, "contrast: axes is 'num_clients'; it must be a list of fields"),
        ({"axes": [3]}, "contrast: axes is [3]; it must be a list of fields"),
        ({"axes": ["num_clients", "num_clients"]}, "contrast: axes holds 'num_clients' twice; keep one"),
        (
            {"axes": ["learning_rate"]},
            "contrast: axes: unknown axis 'learning_rate'; choose from num_clients, scenario; an axis is a field with",
        ),
        ({"measure": "acuracy"}, "contrast: measure: unknown measure 'acuracy'; did you mean accuracy?"),
        (
            {"measure": True},
            "contrast: measure: unknown measure true; choose from accuracy, balanced_accuracy, loss, rounds_to_target, "
            "bytes_to_target, averaging_gain, worst_client, null",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path: Path, contrast: object, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, contrast)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "annotation" not in str(caught.value)
