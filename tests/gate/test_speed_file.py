"""The stored file of timings: how it is made, what is slower than it, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedbench.bench.run import BenchmarkResult, Measured
from fedbench.gate import speed_file
from fedbench.gate.checks import BenchmarkCheck, Judgement
from fedbench.gate.speed_file import check_against_file, read_speed_baseline, write_speed_baseline
from fedbench.util.errors import BaselineError, BenchmarkError

Measurement = dict[str, float | None]  # each benchmark's multiple of the yardstick; None: nothing is counted
Measure = Callable[..., list[str | None]]
BOTH: Measurement = {"step": 2.0, "evaluate": 4.0}


def measured(multiples: Measurement, failed: dict[str, str] | None = None) -> Measured:
    results = tuple(
        BenchmarkResult(name, "training", {}, 0.02, 0.001, 0.018, 0.002, 30, None, None, multiple)
        for name, multiple in multiples.items()
    )
    return Measured("{}", results, failed or {}, "a processor, 2 cores", {"fedbench.torch": "2"})


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Sets the results of the next measurements; gives the list of the selections that are asked for."""

    def give(*measurements: Measured | Measurement) -> list[str | None]:
        coming: Iterator[Measured | Measurement] = iter(measurements)
        selections: list[str | None] = []

        def run(select: str | None = None) -> Measured:
            selections.append(select)
            found = next(coming)
            return found if isinstance(found, Measured) else measured(found)

        monkeypatch.setattr(speed_file, "run_benchmarks", run)
        return selections

    return give


@pytest.fixture
def path(tmp_path: Path, measure: Measure) -> Path:
    """A file in which a step takes twice the yardstick's time and an evaluation four times."""
    measure(BOTH, BOTH, BOTH)
    write_speed_baseline(tmp_path / "baselines" / "speed.json")
    return tmp_path / "baselines" / "speed.json"


def by_name(path: Path) -> dict[str, BenchmarkCheck]:
    return {each.name: each for each in check_against_file(path).benchmarks}


def test_the_file_has_the_median_of_three_measurements_of_what_is_counted(tmp_path: Path, measure: Measure) -> None:
    selections = measure(*({"step": multiple, "track": None} for multiple in (2.0, 9.0, 2.2)))
    write_speed_baseline(tmp_path / "speed.json")
    stored = read_speed_baseline(tmp_path / "speed.json")
    assert [None] * 3 == selections
    assert {"step": 2.2} == {name: each.yardstick_multiple for name, each in stored.benchmarks.items()}
    assert ("a processor, 2 cores", {"fedbench.torch": "2"}) == (stored.machine, stored.versions)
    assert ["first baseline"] == [each.reason for each in stored.history]


def test_a_change_needs_a_reason_before_anything_is_measured_and_keeps_the_old_ones(
    path: Path, measure: Measure
) -> None:
    selections = measure(*[{"step": 3.0}] * 3)
    with pytest.raises(BaselineError, match=r"speed.json exists: say why it changes with --reason TEXT"):
        write_speed_baseline(path)
    assert [] == selections
    write_speed_baseline(path, "a clearer step")
    assert ["first baseline", "a clearer step"] == [each.reason for each in read_speed_baseline(path).history]


def test_a_benchmark_that_fails_leaves_the_file_unchanged(path: Path, measure: Measure) -> None:
    before = path.read_bytes()
    measure(BOTH, measured({"step": 2.0}, {"evaluate": "ValueError: no"}), BOTH)
    with pytest.raises(BenchmarkError, match=r"^evaluate fails: ValueError: no: nothing was written$"):
        write_speed_baseline(path, "none")
    assert before == path.read_bytes()


def test_a_benchmark_is_slower_if_it_was_so_three_times(path: Path, measure: Measure) -> None:
    selections = measure({"step": 2.8, "evaluate": 4.4}, {"step": 2.6}, {"step": 3.0})  # 1.4, 1.3 and 1.5 times 2
    found = by_name(path)
    assert [None, "step", "step"] == selections
    step, evaluate = found["step"], found["evaluate"]
    assert (Judgement.WORSE, 3, 2.0) == (step.judgement, step.samples, step.before)
    assert (1.3, 2.6) == pytest.approx((step.ratio, step.now))
    assert (1.3, 1.5) == pytest.approx(step.interval)
    assert (Judgement.NOT_WORSE, 1, None) == (evaluate.judgement, evaluate.samples, evaluate.interval)


def test_a_benchmark_that_was_fast_enough_once_is_not_slower(path: Path, measure: Measure) -> None:
    selections = measure({"step": 2.8, "evaluate": 3.0}, {"step": 2.4, "step_of_another": 9.0})
    found = by_name(path)
    assert [None, "step"] == selections
    assert (Judgement.NOT_WORSE, 1.2) == (found["step"].judgement, pytest.approx(found["step"].ratio))
    assert Judgement.BETTER == found["evaluate"].judgement  # 3 of 4: below 1 / 1.25


def test_a_benchmark_that_fails_is_worse_with_its_reason(path: Path, measure: Measure) -> None:
    measure(measured({"step": 2.0}, {"evaluate": "ValueError: no"}))
    found = by_name(path)
    assert (Judgement.NOT_WORSE, Judgement.WORSE) == (found["step"].judgement, found["evaluate"].judgement)
    assert ("fails: ValueError: no", True) == (found["evaluate"].reason, math.isnan(found["evaluate"].ratio))
    measure({"step": 2.8, "evaluate": 4.0}, measured({}, {"step": "ValueError: no"}))
    assert "fails: ValueError: no" == by_name(path)["step"].reason  # also in the second measurement


@pytest.mark.parametrize(
    ("multiples", "line"),
    [
        (BOTH | {"round": 1.0}, "lacks benchmark round: recreate it with"),
        ({"step": 2.0}, "has benchmark evaluate, which no longer exists: recreate it with"),
    ],
)
def test_a_file_of_other_benchmarks_is_refused(path: Path, measure: Measure, multiples: Measurement, line: str) -> None:
    measure(multiples)
    with pytest.raises(BaselineError, match=line):
        check_against_file(path)


def changed(content: Any, **changes: Any) -> str:
    return json.dumps(content | changes)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda _: "{", "is not JSON: restore it, or delete it and recreate it"),
        (lambda content: changed(content, machine=5), "machine: "),
        (lambda content: changed(content, benchmarks={}), "benchmarks: "),
        (lambda content: changed(content, machine="mine"), r"was changed by hand \(its checksum\)"),
        (
            lambda content: changed(content, benchmarks={"step": {"group": "", "yardstick_multiple": -1.0}}),
            "benchmarks.step.yardstick_multiple: Input should be greater than 0",
        ),
        (
            lambda content: changed(content, benchmarks={"step": {"group": "", "yardstick_multiple": math.nan}}),
            "benchmarks.step.yardstick_multiple: Input should be a finite number",
        ),
    ],
)
def test_an_invalid_file_is_refused_in_one_line_before_anything_is_measured(
    path: Path, measure: Measure, change: Callable[[Any], str], line: str
) -> None:
    path.write_text(change(json.loads(path.read_text())))
    selections = measure()
    with pytest.raises(BaselineError, match=line) as caught:
        check_against_file(path)
    assert 1 == len(str(caught.value).splitlines())
    assert [] == selections


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"^there is no .*speed.json: make it with fedbench baseline --speed$"):
        check_against_file(tmp_path / "speed.json")
