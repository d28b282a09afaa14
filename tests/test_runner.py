"""A suite's runs recorded, in a tracker that keeps everything in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from fedbench.errors import DataError, SuiteError
from fedbench.executors import in_process
from fedbench.measures import RunResult, Verdict
from fedbench.runner import DataSource, Outcome, choose_device, fingerprint, run_suite
from fedbench.simulation import Event, RoundDone, RunDone, Started
from fedbench.specs import CellSpec, RunSpec
from fedbench.tracking.memory import MemoryTracker

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}
DATA = DataSource()


def make_run(seed: int = 0, *, suite: str = "s", scenario: str = "a", **fields: Any) -> RunSpec:
    spec = CellSpec(**(TINY | fields))
    return RunSpec(suite=suite, scenario=scenario, cell=f"{scenario} {fields}", spec=spec, seed=seed)


def run_all(
    runs: Sequence[RunSpec], tracker: MemoryTracker, execute: Any = in_process.execute, fresh: bool = False
) -> list[Outcome]:
    return list(run_suite(runs, DATA, tracker, execute, fresh))


@pytest.fixture(scope="module")
def ran() -> tuple[list[RunSpec], MemoryTracker, list[Outcome]]:
    """Two cells of two seeds, run once."""
    runs = [make_run(seed, init=init) for init in ("shared", "independent") for seed in (0, 1)]
    tracker = MemoryTracker()
    return runs, tracker, run_all(runs, tracker)


Ran = tuple[list[RunSpec], MemoryTracker, list[Outcome]]


def test_every_run_is_executed_and_tracked_in_order(ran: Ran) -> None:
    runs, tracker, outcomes = ran
    assert runs == [outcome.run for outcome in outcomes] == [tracked.run for tracked in tracker.runs]
    assert all(outcome.executed for outcome in outcomes)
    assert [outcome.result for outcome in outcomes] == [tracked.result for tracked in tracker.runs]


def test_every_round_the_model_and_the_data_are_tracked(ran: Ran) -> None:
    _, tracker, outcomes = ran
    for tracked, outcome in zip(tracker.runs, outcomes, strict=True):
        assert 2 == len(tracked.rounds)
        assert tracked.rounds[-1] == outcome.result.metrics
        assert tracked.model is not None
        assert DATA.dataset(tracked.run.spec).digest == tracked.dataset_digest
        assert tracked.killed is None


def test_finished_runs_are_skipped_with_their_results(ran: Ran) -> None:
    runs, tracker, outcomes = ran
    again = run_all(runs, tracker)
    assert [False] * 4 == [outcome.executed for outcome in again]
    assert [outcome.result for outcome in outcomes] == [outcome.result for outcome in again]
    assert 4 == len(tracker.runs)


def test_a_new_seed_is_executed_beside_the_skipped_ones(ran: Ran) -> None:
    runs, tracker, _ = ran
    tracker = MemoryTracker(list(tracker.runs))
    outcomes = run_all([make_run(7), *runs], tracker)
    assert [(7, True)] == [(each.run.seed, each.executed) for each in outcomes if each.executed]
    assert 5 == len(outcomes)


def test_fresh_executes_what_is_finished_and_gets_the_same_numbers(ran: Ran) -> None:
    runs, tracker, outcomes = ran
    tracker = MemoryTracker(list(tracker.runs))
    (again,) = run_all(runs[:1], tracker, fresh=True)
    assert again.executed
    assert outcomes[0].result == again.result
    assert 5 == len(tracker.runs)


def test_a_failed_run_is_executed_again() -> None:
    tracker = MemoryTracker()
    run = make_run(require_accuracy=1.0)
    for _ in range(2):
        (outcome,) = run_all([run], tracker)
        assert outcome.executed
    assert [Verdict.FAILED] * 2 == [tracked.result.verdict for tracked in tracker.runs if tracked.result]


def test_a_cell_beyond_the_data_is_skipped_with_its_numbers_and_nothing_is_tracked() -> None:
    tracker = MemoryTracker()
    large = make_run(num_clients=5, examples_per_client=1000)
    outcomes = run_all([large, make_run()], tracker)
    reason = "needs 5 x 1000 = 5000 training examples; mnist-5k has 4000"
    assert Outcome(large, RunResult(Verdict.SKIPPED, reason), executed=False) == outcomes[0]
    assert [make_run()] == [tracked.run for tracked in tracker.runs]


def test_a_run_that_fails_is_recorded_with_its_reason_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.nn.Module.train

    def breaks(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
        if mode and breaking:
            breaking.pop()
            raise RuntimeError("no memory")
        return real(module, mode)

    breaking = [True]
    monkeypatch.setattr(torch.nn.Module, "train", breaks)
    tracker = MemoryTracker()
    first, second = run_all([make_run(0), make_run(1)], tracker)
    assert (Verdict.FAILED, "RuntimeError: no memory") == (first.result.verdict, first.result.reason)
    assert second.result.verdict in (Verdict.OK, Verdict.COLLAPSED)
    assert [first.result, second.result] == [tracked.result for tracked in tracker.runs]
    assert tracker.runs[0].model is None


def test_a_diverged_run_counts_as_finished() -> None:
    tracker = MemoryTracker()
    run = make_run(learning_rate=1e30, rounds=20)
    (outcome,) = run_all([run], tracker)
    assert Verdict.DIVERGED is outcome.result.verdict
    assert len(tracker.runs[0].rounds) < 20
    assert tracker.runs[0].model is not None
    (again,) = run_all([run], tracker)
    assert (False, Verdict.DIVERGED) == (again.executed, again.result.verdict)


# Interruption


def interrupted_after(events: int) -> Any:
    def execute(runs: Sequence[RunSpec], data: DataSource) -> Iterator[Event]:
        for count, event in enumerate(in_process.execute(runs, data)):
            if count == events:
                raise KeyboardInterrupt
            yield event

    return execute


@pytest.mark.parametrize(("events", "rounds"), [(1, 0), (2, 1), (3, 2)])
def test_an_interruption_in_the_executor_kills_the_run_under_way(events: int, rounds: int) -> None:
    tracker = MemoryTracker()
    with pytest.raises(KeyboardInterrupt):
        run_all([make_run(0), make_run(1)], tracker, interrupted_after(events))
    (tracked,) = tracker.runs
    assert (rounds, "interrupted", None) == (len(tracked.rounds), tracked.killed, tracked.result)


def test_after_an_interruption_only_the_rest_is_executed() -> None:
    tracker = MemoryTracker()
    runs = [make_run(0), make_run(1)]
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, tracker, interrupted_after(6))  # four events of the first run, two of the second
    outcomes = run_all(runs, tracker)
    assert [(runs[0], False), (runs[1], True)] == [(each.run, each.executed) for each in outcomes]
    assert [None, "interrupted", None] == [tracked.killed for tracked in tracker.runs]


def test_a_consumer_that_stops_after_a_result_leaves_that_run_finished() -> None:
    tracker = MemoryTracker()
    outcomes = run_suite([make_run(0), make_run(1)], DATA, tracker, in_process.execute)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    (tracked,) = tracker.runs
    assert tracked.result is not None
    assert tracked.killed is None


def test_a_run_started_again_kills_the_record_of_the_first_try() -> None:
    run = make_run()
    result = RunResult(Verdict.OK, None, {"accuracy": 0.5})

    def twice(runs: Sequence[RunSpec], data: DataSource) -> Iterator[Event]:
        del runs, data
        yield Started(run)
        yield RoundDone(run, 1, {"accuracy": 0.4})
        yield Started(run)  # its worker died
        yield RoundDone(run, 1, {"accuracy": 0.5})
        yield RunDone(run, result)

    tracker = MemoryTracker()
    (outcome,) = run_all([run], tracker, twice)
    first, second = tracker.runs
    assert (None, "the worker process died; the run was started again") == (first.result, first.killed)
    assert (outcome.result, None) == (second.result, second.killed)


def test_a_run_that_ends_before_it_started_is_recorded_as_failed() -> None:
    """As when its worker dies twice while it loads its data."""
    run = make_run()
    result = RunResult(Verdict.FAILED, "its worker process died 2 times")

    def never_started(runs: Sequence[RunSpec], data: DataSource) -> Iterator[Event]:
        del runs, data
        yield RunDone(run, result)

    tracker = MemoryTracker()
    (outcome,) = run_all([run], tracker, never_started)
    assert (run, result) == (outcome.run, outcome.result)


def test_missing_data_stops_everything_before_anything_is_tracked(tmp_path: Any) -> None:
    tracker = MemoryTracker()
    with pytest.raises(DataError, match="mnist"):
        list(run_suite([make_run(), make_run(dataset="mnist")], DataSource(tmp_path), tracker, in_process.execute))
    assert [] == tracker.runs


# Identity


def test_the_fingerprint_changes_with_everything_that_can_move_a_number() -> None:
    identity = fingerprint(make_run(), "digest", "cpu")
    others = [
        fingerprint(make_run(seed=1), "digest", "cpu"),
        fingerprint(make_run(), "other digest", "cpu"),
        fingerprint(make_run(), "digest", "cuda"),
        *(
            fingerprint(make_run(**{field: value}), "digest", "cpu")
            for field, value in {
                "init": "independent",
                "dataset": "mnist",
                "partition": "iid",
                "num_clients": 3,
                "examples_per_client": 21,
                "client_fraction": 0.5,
                "local_epochs": 2,
                "batch_size": None,
                "learning_rate": 0.02,
                "rounds": 3,
                "require_accuracy": 0.1,
                "require_loss_fall": True,
            }.items()
        ),
    ]
    assert identity not in others
    assert len(others) == len(set(others))


def test_the_fingerprint_does_not_depend_on_the_suites_name() -> None:
    first, second = (fingerprint(make_run(suite=name), "digest", "cpu") for name in ("s", "t"))
    assert first == second
    assert 64 == len(first)


def test_an_unknown_device_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SuiteError, match=r"--device tpu: this machine has cpu.* or auto"):
        choose_device("tpu")
    assert "cpu" == choose_device("cpu")
    assert choose_device("auto") in ("cpu", "cuda", "mps")
