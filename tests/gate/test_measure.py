"""A real suite is measured, and compared with itself and with what it was; and the environment that bits depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from made_records import made_suite

from fedbench.core import WeightedMean
from fedbench.executors import choose_executor
from fedbench.gate import accuracy
from fedbench.gate.accuracy import check_against_baseline
from fedbench.gate.baseline import Baseline, CellRecord, new_baseline, require_judgeable
from fedbench.gate.checks import Judgement
from fedbench.gate.measure import measure_suite
from fedbench.measures import RunResult, Verdict
from fedbench.runs.data import DataSource
from fedbench.runs.events import Digests, Event, Job, RoundDone, RunDone
from fedbench.suites.schema import Suite
from fedbench.util import environment as environment_module
from fedbench.util.environment import environment, environment_changes
from fedbench.util.errors import BaselineError, DataError, SuiteError

TEXT = """
name: tiny
question: Is anything worse?
seeds: [0, 1]
defaults: {examples_per_client: 20, rounds: 2, local_epochs: 1}
scenarios:
  - name: grid
    num_clients: [2, 3]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return made_suite(tmp_path_factory.mktemp("suite"), TEXT)


@pytest.fixture(scope="module")
def cells(suite: Suite) -> tuple[CellRecord, ...]:
    return measured(suite)


def measured(suite: Suite, workers: int = 1) -> tuple[CellRecord, ...]:
    return measure_suite(suite, DataSource(), choose_executor(workers))


def baseline_of(suite: Suite, cells: tuple[CellRecord, ...], before: Baseline | None = None) -> Baseline:
    return new_baseline(suite, cells, "cpu", "a reason", before, allow_collapsed=True)


def test_the_records_follow_the_suite_with_every_round_and_client(suite: Suite, cells: tuple[CellRecord, ...]) -> None:
    assert [cell.label for cell in suite.cells] == [record.label for record in cells]
    assert [[0, 1]] * 2 == [[each.seed for each in record.seeds] for record in cells]
    for record, clients in zip(cells, ({"0", "1"}, {"0", "1", "2"}), strict=True):
        assert [[clients] * 2] * 2 == [[set(each.clients) for each in seed.rounds] for seed in record.seeds]
        last = record.seeds[0].rounds[-1].metrics
        assert {"accuracy", "balanced_accuracy", "loss", "train_loss", "client_drift", "averaging_gain"} <= last.keys()
        assert not {name for name in last if "/" in name or "seconds" in name}


def test_a_metric_that_is_not_finite_is_null(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, TEXT.replace("[0, 1]", "[0]").replace("[2, 3]", "2"))

    def execute(jobs: Iterable[Job], _: DataSource) -> Iterator[Event]:
        (job,) = jobs
        metrics = {"accuracy": 0.1, "loss": math.nan, "training_seconds": 1.0, "recall/7": 0.5}
        yield RoundDone(job.run, 1, metrics, Digests("aa", {0: "bb", 1: "cc"}))
        yield RunDone(job.run, RunResult(Verdict.DIVERGED, "the loss", metrics), None)

    ((record,),) = (cell.seeds for cell in measure_suite(suite, DataSource(), execute))
    assert {"accuracy": 0.1, "loss": None} == record.rounds[0].metrics
    assert ({"0": "bb", "1": "cc"}, None) == (record.rounds[0].clients, record.reason)


@pytest.mark.slow  # starts two processes
def test_two_workers_give_the_same_records_as_one(suite: Suite, cells: tuple[CellRecord, ...]) -> None:
    assert cells == measured(suite, workers=2)


def test_a_suite_is_the_same_as_itself(suite: Suite, cells: tuple[CellRecord, ...]) -> None:
    found = check_against_baseline(suite, baseline_of(suite, cells), cells, "cpu", 1.0)
    assert ((), "accuracy", 0.01) == (found.other_environment, found.metric, found.margin)
    assert [Judgement.SAME] * 2 == [cell.judgement for cell in found.cells]


def test_a_changed_average_is_found_where_it_began(
    suite: Suite, cells: tuple[CellRecord, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's average is larger by a few last bits."""
    add = WeightedMean.add
    monkeypatch.setattr(WeightedMean, "add", lambda mean, state, share: add(mean, state, share * (1 + 2e-7)))
    now = measured(suite)
    baseline = baseline_of(suite, cells)
    found = check_against_baseline(suite, baseline, now, "cpu", 1.0)
    expected = "2 of 2 seeds, first in seed 0: round 1, the average of the same clients"
    assert [expected] * 2 == [cell.changed for cell in found.cells]
    ignored = check_against_baseline(suite, baseline, now, "cpu", 1.0, ignore_bits=True)
    assert [None] * 2 == [cell.changed for cell in ignored.cells]
    elsewhere = baseline.model_copy(update={"environment": baseline.environment | {"torch": "1.0"}})
    other = check_against_baseline(suite, elsewhere, now, "cpu", 1.0)
    assert ("torch none, was 1.0",) == other.other_environment
    assert [None] * 2 == [cell.changed for cell in other.cells]


def test_bits_of_a_gpu_are_not_compared_in_the_environment_of_the_baseline_either(
    suite: Suite, cells: tuple[CellRecord, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = baseline_of(suite, cells)
    monkeypatch.setattr(accuracy, "environment_of", lambda *_: baseline.environment)
    assert [True, False] == [
        check_against_baseline(suite, baseline, cells, device, 1.0).compares_bits for device in ("cpu", "cuda")
    ]


def test_history_margin_and_metric_continue_those_of_the_baseline_before(
    suite: Suite, cells: tuple[CellRecord, ...]
) -> None:
    first = new_baseline(suite, cells, "cpu", "first baseline", None, 0.05, "balanced_accuracy", True)
    second = baseline_of(suite, cells, first)
    assert ["first baseline", "a reason"] == [entry.reason for entry in second.history]
    assert (0.05, "balanced_accuracy") == (second.margin, second.metric)
    third = new_baseline(suite, cells, "cpu", "narrower", second, 0.02, allow_collapsed=True)
    assert (0.02, "balanced_accuracy", 3) == (third.margin, third.metric, len(third.history))


def test_a_failed_run_makes_no_baseline(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, TEXT.replace("local_epochs: 1", "local_epochs: 1, require_accuracy: 1.0"))
    with pytest.raises(BaselineError, match="since a run failed: grid num_clients=2 seed=0 failed: acc"):
        baseline_of(suite, measured(suite))


def test_too_little_data_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, TEXT.replace("examples_per_client: 20", "examples_per_client: 4000"))
    with pytest.raises(SuiteError, match="cell grid num_clients=2 cannot be checked: needs 2 x 4000"):
        measured(suite)
    suite = made_suite(tmp_path, TEXT.replace("rounds: 2", "rounds: 2, dataset: mnist"))
    with pytest.raises(DataError, match="fedbench data fetch mnist"):
        measure_suite(suite, DataSource(tmp_path), choose_executor(1))


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1, float("nan"), float("inf")])
def test_a_margin_that_is_no_fraction_is_refused(margin: float) -> None:
    with pytest.raises(BaselineError, match=r"--margin .*: give a fraction between 0 and 1"):
        require_judgeable(margin, None)


def test_a_metric_that_cannot_be_judged_is_refused() -> None:
    with pytest.raises(BaselineError, match="--metric: unknown metric 'loss'"):
        require_judgeable(None, "loss")


# The environment


def test_a_setting_of_the_libraries_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment("cpu", 1)
    assert () == environment_changes(before, environment("cpu", 1))
    assert {"device", "instructions", "kernels", "layout", "processor", "threads", "torch"} <= before.keys()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert ("settings ONEDNN_MAX_CPU_ISA=AVX2, was none",) == environment_changes(before, environment("cpu", 1))


def test_an_unknown_processor_leaves_the_rest_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_module, "CPUINFO", tmp_path / "none")
    assert "" == environment("cpu", 1)["instructions"]
    (tmp_path / "arm").write_text("processor: 0\nFeatures: fp asimd sha1 bf16\nCPU part: 0xd40\n\nprocessor: 1\n")
    monkeypatch.setattr(environment_module, "CPUINFO", tmp_path / "arm")
    found = environment("cpu", 1)
    assert ("asimd bf16", "0xd40") == (found["instructions"], found["processor"])


def test_long_or_missing_values_are_described_in_short() -> None:
    assert ("other instructions", "torch 2, was none") == environment_changes(
        {"instructions": "a" * 90}, {"torch": "2"}
    )
