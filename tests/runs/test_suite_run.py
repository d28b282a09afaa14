"""A suite's runs recorded, in a tracker that keeps everything in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch

from fedbench.core import trainer
from fedbench.core.flat import ModelState
from fedbench.datasets import Dataset, dataset_info
from fedbench.executors import in_process
from fedbench.measures import TIMES, RunResult, Verdict
from fedbench.runs import simulation
from fedbench.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from fedbench.runs.computing import PYTORCH, bits_depend_on, computed_with
from fedbench.runs.data import DataSource, choose_device
from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.identity import fingerprint
from fedbench.runs.suite_run import Outcome, run_suite
from fedbench.runs.work import RunWork
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.tracking.memory import MemoryRun, MemoryTracker
from fedbench.util.errors import DataError, StoreError, SuiteError
from fedbench.util.locks import Lock, lock

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}
DATA = DataSource()


def make_run(seed: int = 0, *, suite: str = "s", scenario: str = "a", **fields: Any) -> RunSpec:
    spec = CellSpec(**(TINY | fields))
    return RunSpec(suite=suite, scenario=scenario, cell=f"{scenario} {fields}", spec=spec, seed=seed)


def run_all(
    runs: Sequence[RunSpec], tracker: MemoryTracker, execute: Any = in_process.execute, fresh: bool = False
) -> list[Outcome]:
    return list(run_suite(runs, DATA, tracker, execute, fresh))


def untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMES}


@pytest.fixture(scope="module")
def ran() -> tuple[list[RunSpec], MemoryTracker, list[Outcome]]:
    """Two cells of two seeds, run once."""
    runs = [make_run(seed, init=init) for init in ("shared", "independent") for seed in (0, 1)]
    tracker = MemoryTracker()
    return runs, tracker, run_all(runs, tracker)


Ran = tuple[list[RunSpec], MemoryTracker, list[Outcome]]


def test_skipped_runs_that_were_computed_elsewhere_are_reported(ran: Ran, caplog: pytest.LogCaptureFixture) -> None:
    runs, tracker, _ = ran
    assert not any(outcome.elsewhere for outcome in run_all(runs, tracker))
    assert not caplog.messages
    before = tracker.runs[1].result
    assert before is not None
    another = {"fedbench.torch": "2.0.1+cpu", "fedbench.computed_with": PYTORCH}
    try:
        tracker.runs[1].result = replace(before, computed_by=before.computed_by | another)
        outcomes = run_all(runs, tracker)
    finally:
        tracker.runs[1].result = before
    different = f"PyTorch 2.0.1, here {torch.__version__.partition('+')[0]}"
    assert [None, different, None, None] == [outcome.elsewhere for outcome in outcomes]
    (said,) = caplog.messages
    assert f"fedbench: runs skipped as the same that were computed elsewhere: 1 ({different})." in said


def test_models_can_be_left_out(ran: Ran) -> None:
    assert all(tracked.final.model is not None for tracked in ran[1].runs)
    tracker = MemoryTracker()
    (outcome,) = run_suite(ran[0][:1], DATA, tracker, in_process.execute, store_models=False)
    (tracked,) = tracker.runs
    assert tracked.final.model is None
    assert tracked.final.confusion is not None
    assert outcome.result == ran[2][0].result


def test_every_run_is_executed_and_tracked_in_order(ran: Ran) -> None:
    runs, tracker, outcomes = ran
    assert runs == [outcome.run for outcome in outcomes] == [tracked.run for tracked in tracker.runs]
    assert all(outcome.executed for outcome in outcomes)
    assert [outcome.result for outcome in outcomes] == [tracked.result for tracked in tracker.runs]


def test_every_round_the_model_and_the_data_are_tracked(ran: Ran) -> None:
    _, tracker, outcomes = ran
    for tracked, outcome in zip(tracker.runs, outcomes, strict=True):
        assert 2 == len(tracked.rounds)
        by_client = {f"client_accuracy/{client}": value for client, value in outcome.result.client_accuracy.items()}
        assert untimed(tracked.rounds[-1]) == dict(outcome.result.metrics) | by_client
        assert {"training_seconds", "evaluation_seconds"} <= tracked.rounds[-1].keys()
        assert tracked.final.confusion is not None
        assert outcome.result.metrics["accuracy"] == tracked.final.confusion.trace() / 1000
        assert tracked.final.partition is not None
        assert [[2] * 10] * 2 == tracked.final.partition.counts.tolist()  # mnist-5k's classes take turns
        assert tracked.final.model is not None
        assert DATA.dataset(tracked.run.spec).digest == tracked.dataset_digest
        assert tracked.killed is None


def test_finished_runs_are_skipped_with_their_results(ran: Ran) -> None:
    runs, tracker, outcomes = ran
    again = run_all(runs, tracker)
    assert [False] * 4 == [outcome.executed for outcome in again]
    assert [outcome.result for outcome in outcomes] == [outcome.result for outcome in again]
    assert 4 == len(tracker.runs)


def test_each_cell_is_brought_up_to_date_once_all_its_seeds_are_through(ran: Ran) -> None:
    runs, tracker, _ = ran
    cells = [cell_fingerprint(run) for run in (runs[0], runs[2])]
    assert cells == tracker.cells[:2]
    again = MemoryTracker(list(tracker.runs))
    run_all([make_run(7), *runs], again)  # the new seed is of the first cell
    assert sorted(cells) == sorted(again.cells)


def test_a_new_seed_is_executed_with_the_skipped_ones(ran: Ran) -> None:
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
    real = trainer.client_update

    def breaks(*arguments: Any) -> float:
        if breaking:
            breaking.pop()
            raise RuntimeError("no memory")
        return real(*arguments)

    breaking = [True]
    monkeypatch.setattr(trainer, "client_update", breaks)
    tracker = MemoryTracker()
    first, second = run_all([make_run(0), make_run(1)], tracker)
    assert (Verdict.FAILED, "RuntimeError: no memory") == (first.result.verdict, first.result.reason)
    assert second.result.verdict in (Verdict.OK, Verdict.BELOW_MAJORITY, Verdict.COLLAPSED)
    assert [first.result, second.result] == [tracked.result for tracked in tracker.runs]
    assert tracker.runs[0].final.model is None


def test_a_diverged_run_counts_as_finished() -> None:
    tracker = MemoryTracker()
    run = make_run(learning_rate=1e30, rounds=20)
    (outcome,) = run_all([run], tracker)
    assert Verdict.DIVERGED is outcome.result.verdict
    assert len(tracker.runs[0].rounds) < 20
    assert tracker.runs[0].final.model is not None
    (again,) = run_all([run], tracker)
    assert (False, Verdict.DIVERGED) == (again.executed, again.result.verdict)


# Interruption


def interrupted_after(events: int) -> Any:
    def execute(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
        for count, event in enumerate(in_process.execute(jobs, work)):
            if count == events:
                raise KeyboardInterrupt
            yield event

    return execute


@pytest.mark.parametrize(("events", "rounds"), [(0, 0), (1, 1), (2, 2)])
def test_an_interruption_in_the_executor_kills_the_run_under_way(events: int, rounds: int) -> None:
    tracker = MemoryTracker()
    with pytest.raises(KeyboardInterrupt):
        run_all([make_run(0), make_run(1)], tracker, interrupted_after(events))
    (tracked,) = tracker.runs
    assert (rounds, "interrupted", None) == (len(tracked.rounds), tracked.killed, tracked.result)


def test_after_an_interruption_only_the_rest_is_executed() -> None:
    """Without checkpoints the interrupted run starts over, as another run."""
    tracker = MemoryTracker()
    runs = [make_run(0), make_run(1)]
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, tracker, interrupted_after(4))  # three events of the first run, one of the second
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


def test_rounds_that_are_told_again_are_recorded_once_in_the_same_run() -> None:
    """As after the death of a worker, which resumes from the checkpoint."""
    run = make_run()
    result = RunResult(Verdict.OK, None, {"accuracy": 0.5})

    def twice(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
        del work
        assert [run] == [job.run for job in jobs]
        yield RoundDone(run, 1, {"accuracy": 0.4})
        yield RoundDone(run, 1, {"accuracy": 0.4})  # its worker died
        yield RoundDone(run, 2, {"accuracy": 0.5})
        yield RunDone(run, result)

    tracker = MemoryTracker()
    (outcome,) = run_all([run], tracker, twice)
    (tracked,) = tracker.runs
    assert [{"accuracy": 0.4}, {"accuracy": 0.5}] == tracked.rounds
    assert (outcome.result, None) == (tracked.result, tracked.killed) == (result, None)


def test_a_run_that_ends_without_a_round_is_recorded_as_failed() -> None:
    """As when its worker dies twice while it loads its data."""
    run = make_run()
    result = RunResult(Verdict.FAILED, "its worker process died 2 times")

    def never_started(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
        del work
        yield from (RunDone(job.run, result) for job in jobs)

    tracker = MemoryTracker()
    (outcome,) = run_all([run], tracker, never_started)
    assert (run, result, True) == (outcome.run, outcome.result, outcome.executed)
    assert [result] == [tracked.result for tracked in tracker.runs]


def test_a_job_is_begun_in_the_tracker_only_when_the_executor_asks_for_it() -> None:
    tracker = MemoryTracker()
    begun: list[int] = []

    def watching(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
        for event in in_process.execute(jobs, work):
            begun.append(len(tracker.runs))
            yield event

    run_all([make_run(0), make_run(1)], tracker, watching)
    assert [1, 1, 1, 2, 2, 2] == begun  # two rounds and an end each


def test_what_cannot_be_dealt_fails_with_a_line_that_says_what_to_do_and_the_others_go_on() -> None:
    runs = [make_run(partition="by-column", partition_column="age", examples_per_client=None), make_run()]
    failed, other = run_all(runs, MemoryTracker())
    assert failed.result is not None
    assert Verdict.FAILED is failed.result.verdict
    assert "by-column: there is no column age: this dataset has no metadata" == failed.result.reason
    assert other.result is not None
    assert Verdict.FAILED is not other.result.verdict


# Going on from a checkpoint


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The seeds and rounds that are trained, as they are."""
    found: list[tuple[int, int]] = []
    real = simulation.fedavg_rounds

    def counting(spec: CellSpec, seed: int, *rest: Any) -> Iterator[Any]:
        for result in real(spec, seed, *rest):
            found.append((seed, result.round))
            yield result

    monkeypatch.setattr(simulation, "fedavg_rounds", counting)
    return found


def assert_equal_records(expected: MemoryRun, actual: MemoryRun) -> None:
    """Equal to the last bit, but for the times."""
    assert list(map(untimed, expected.rounds)) == list(map(untimed, actual.rounds))
    assert expected.result == actual.result
    one, other = expected.final, actual.final
    assert one.lines == other.lines
    assert (one.confusion == other.confusion).all()  # type: ignore[union-attr]
    assert one.partition is not None
    assert other.partition is not None
    assert one.partition.csv() == other.partition.csv()
    assert one.model is not None
    assert other.model is not None
    states = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def checkpoint_files(tracker: MemoryTracker) -> list[str]:
    assert tracker.checkpoints is not None
    return sorted(path.name for path in tracker.checkpoints.iterdir()) if tracker.checkpoints.exists() else []


def files_of(run: RunSpec) -> list[str]:
    """What is kept of an unfinished run."""
    return [f"{identity(run)}.ckpt", f"{identity(run)}.lock"]


LONG = {"rounds": 4, "init": "independent", "learning_rate": 0.1}


@pytest.mark.parametrize("rounds", [1, 3, 4])
def test_after_an_interruption_the_same_run_goes_on_after_its_last_round_and_ends_with_the_same_bits(
    tmp_path: Path, trained: list[tuple[int, int]], rounds: int
) -> None:
    runs = [make_run(0, **LONG), make_run(1, **LONG)]
    reference = MemoryTracker()
    run_all(runs, reference)
    tracker = MemoryTracker(checkpoints=tmp_path / "checkpoints")
    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, tracker, interrupted_after(5 + rounds))  # five events of the first run
    assert files_of(runs[1]) == checkpoint_files(tracker)
    outcomes = run_all(runs, tracker)
    assert [(runs[0], False), (runs[1], True)] == [(each.run, each.executed) for each in outcomes]
    assert [(seed, t) for seed in (0, 1) for t in range(1, 5)] == sorted(trained)  # each round once
    assert 2 == len(tracker.runs)
    for expected, actual in zip(reference.runs, tracker.runs, strict=True):
        assert_equal_records(expected, actual)
        assert actual.killed is None


def test_the_checkpoint_is_removed_when_a_run_is_finished_and_when_it_has_failed(tmp_path: Path) -> None:
    tracker = MemoryTracker(checkpoints=tmp_path / "checkpoints")
    seen: list[int] = []

    def watching(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
        for event in in_process.execute(jobs, work):
            seen.append(len(checkpoint_files(tracker)))
            yield event

    run_all([make_run(0), make_run(1, require_accuracy=1.0)], tracker, watching)
    assert [2] * 6 == seen  # with the lock
    assert [] == checkpoint_files(tracker)


def test_what_a_killed_process_left_of_a_finished_run_is_removed(tmp_path: Path) -> None:
    """It was killed between the end of the run and the removal."""
    tracker = MemoryTracker(checkpoints=tmp_path / "checkpoints")
    run_all([make_run()], tracker)
    for name in files_of(make_run()):
        (tmp_path / "checkpoints" / name).write_text("left over")
    (outcome,) = run_all([make_run()], tracker)
    assert not outcome.executed
    assert [] == checkpoint_files(tracker)


# A run that another command computes


def hold(tracker: MemoryTracker, run: RunSpec) -> Lock:
    """Begin a run as another command does, in a thread: filelock sees that one cannot wait for itself."""
    assert tracker.checkpoints is not None
    with ThreadPoolExecutor(1) as another:
        return another.submit(lock, tracker.checkpoints / f"{identity(run)}.lock").result()


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_whose_lock_is_held_comes_last_and_is_computed_unless_it_is_finished_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, finishes: bool
) -> None:
    tracker, runs = MemoryTracker(checkpoints=tmp_path), [make_run(0), make_run(1)]
    held = hold(tracker, runs[0])
    outcomes = run_suite(runs, DATA, tracker, in_process.execute)
    assert runs[1] == next(outcomes).run
    result = RunResult(Verdict.OK, None, {"accuracy": 0.5})

    def end() -> None:
        if finishes:
            tracker.runs.append(MemoryRun(runs[0], identity(runs[0]), "", result=result))
            held.remove()
        else:
            held.release()

    Timer(0.5, end).start()
    (last,) = outcomes
    assert (runs[0], not finishes) == (last.run, last.executed)
    assert not finishes or last.result == result
    assert ["fedbench: waiting for runs that another command computes; Ctrl-C ends that"] == caplog.messages
    assert [] == checkpoint_files(tracker)


def test_a_run_that_another_command_finished_since_the_suite_began_is_not_computed_again(tmp_path: Path) -> None:
    tracker, runs = MemoryTracker(checkpoints=tmp_path), [make_run(0), make_run(1)]
    outcomes = run_suite(runs, DATA, tracker, in_process.execute)
    next(outcomes)
    result = RunResult(Verdict.OK, None, {"accuracy": 0.5})
    tracker.runs.append(MemoryRun(runs[1], identity(runs[1]), "", result=result))
    assert [Outcome(runs[1], result, executed=False)] == list(outcomes)
    assert [] == checkpoint_files(tracker)


def test_a_folder_without_room_for_locks_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(StoreError, match=r"\.lock cannot be locked \(.*\): let this user write there"):
        run_all([make_run()], MemoryTracker(checkpoints=tmp_path / "checkpoints"))


def test_what_was_left_of_a_checkpoint_half_written_is_removed_with_it(tmp_path: Path) -> None:
    tracker = MemoryTracker(checkpoints=tmp_path)
    (tmp_path / f".{identity(make_run())}.ckpt.123-0123abcd.tmp").write_text("half")
    run_all([make_run()], tracker)
    assert [] == checkpoint_files(tracker)


def interrupt_after_three_rounds(run: RunSpec, tracker: MemoryTracker) -> Path:
    with pytest.raises(KeyboardInterrupt):
        run_all([run], tracker, interrupted_after(3))
    assert tracker.checkpoints is not None
    return tracker.checkpoints / f"{identity(run)}.ckpt"


def with_vector(found: Checkpoint, vector: torch.Tensor) -> Checkpoint:
    return replace(found, server=replace(found.server, model=ModelState(vector)))


@pytest.mark.parametrize(
    "alter",
    [
        lambda found: replace(found, server=replace(found.server, model=ModelState(found.server.model.vector[:-1]))),
        lambda found: replace(
            found, server=replace(found.server, model=ModelState(found.server.model.vector.double()))
        ),
        lambda found: replace(found, history=({"accuracy": 0.5},) * found.round),
        lambda found: replace(found, confusion=found.confusion[:-1]),
    ],
    ids=["length", "type", "numbers", "confusion"],
)
def test_a_checkpoint_that_fits_another_model_is_one_line_of_warning_and_the_run_starts_anew(
    tmp_path: Path, alter: Callable[[Checkpoint], Checkpoint], caplog: pytest.LogCaptureFixture
) -> None:
    tracker, run = MemoryTracker(checkpoints=tmp_path), make_run(**LONG)
    path = interrupt_after_three_rounds(run, tracker)
    made_by = bits_depend_on(computed_with(run.spec, "cpu"))
    found = load_checkpoint(path, identity(run), made_by)
    assert found is not None
    save_checkpoint(path, identity(run), alter(found), made_by)
    (outcome,) = run_all([run], tracker)
    assert [f"fedbench: checkpoint {path} is not of this model: {run.cell} seed=0 starts over"] == caplog.messages
    assert outcome.result.metrics


def test_a_damaged_checkpoint_is_one_line_of_warning_and_the_run_starts_anew(
    tmp_path: Path, trained: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    tracker, run = MemoryTracker(checkpoints=tmp_path), make_run(**LONG)
    path = interrupt_after_three_rounds(run, tracker)
    path.write_bytes(path.read_bytes()[:-1])
    trained.clear()
    with caplog.at_level(logging.WARNING):
        (outcome,) = run_all([run], tracker)
    assert [f"fedbench: checkpoint {path} is damaged: {run.cell} seed=0 starts over"] == caplog.messages
    assert [(0, t) for t in range(1, 5)] == trained
    reference = MemoryTracker()
    run_all([run], reference)
    assert_equal_records(reference.runs[0], tracker.runs[-1])
    assert outcome.executed
    assert [] == checkpoint_files(tracker)


def test_a_directory_in_a_checkpoints_place_fails_that_run_in_one_line_and_the_others_finish(tmp_path: Path) -> None:
    tracker = MemoryTracker(checkpoints=tmp_path)
    (tmp_path / f"{identity(make_run())}.ckpt").mkdir()
    first, second = run_all([make_run(0), make_run(1)], tracker)
    assert first.result is not None
    assert second.result is not None
    assert Verdict.FAILED is first.result.verdict
    assert "cannot be read (Is a directory)" in str(first.result.reason)
    assert second.result.verdict in (Verdict.OK, Verdict.BELOW_MAJORITY, Verdict.COLLAPSED)


def test_fresh_ignores_checkpoints(tmp_path: Path, trained: list[tuple[int, int]]) -> None:
    tracker, run = MemoryTracker(checkpoints=tmp_path), make_run(**LONG)
    interrupt_after_three_rounds(run, tracker)
    trained.clear()
    (outcome,) = run_all([run], tracker, fresh=True)
    assert [(0, t) for t in range(1, 5)] == trained
    assert outcome.executed
    assert ["interrupted", None] == [each.killed for each in tracker.runs]


# Data and identity


def identity(run: RunSpec) -> str:
    return fingerprint(run, DATA.dataset(run.spec).digest, "cpu")


def cell_fingerprint(run: RunSpec) -> str:
    return fingerprint(run, DATA.dataset(run.spec).digest, "cpu", of_cell=True)


def loaded(digest: str) -> DataSource:
    """The data as if the files had another content."""
    dataset: Dataset = DATA.dataset(make_run().spec)
    return DataSource(_loaded={("mnist-5k", "stratified"): replace(dataset, digest=digest)})


def test_the_published_digest_is_that_of_the_data() -> None:
    assert DATA.dataset(make_run().spec).digest == dataset_info("mnist-5k").digests["stratified"]


def test_finished_runs_of_published_data_are_skipped_without_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = MemoryTracker()
    run_all([make_run()], tracker)

    def load(*_: Any) -> None:
        raise AssertionError("the data was loaded")

    monkeypatch.setattr("fedbench.runs.data.load_dataset", load)
    (outcome,) = run_suite([make_run()], DataSource(), tracker, in_process.execute)
    assert not outcome.executed


def test_runs_on_data_that_is_not_what_was_published_are_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run is left, so the data is loaded; then the finished one is seen to be of other data."""
    tracker = MemoryTracker()
    run_all([make_run(0)], tracker)
    other = replace(DATA.dataset(make_run().spec), digest="0" * 64)
    monkeypatch.setattr("fedbench.runs.data.load_dataset", lambda *_: other)
    outcomes = list(run_suite([make_run(0), make_run(1)], DataSource(), tracker, in_process.execute))
    assert [(0, True), (1, True)] == [(each.run.seed, each.executed) for each in outcomes]
    assert ["0" * 64] * 2 == [tracked.dataset_digest for tracked in tracker.runs[1:]]


def test_runs_on_data_loaded_already_are_known_by_its_content() -> None:
    tracker = MemoryTracker()
    run_all([make_run()], tracker)
    (outcome,) = run_suite([make_run()], loaded("1" * 64), tracker, in_process.execute)
    assert outcome.executed


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
                "interpolation": True,
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


def test_a_fingerprint_does_not_change_by_accident() -> None:
    """The value is of revision 3. If it must change, raise `ALGORITHM_REVISION`; stored runs are computed again."""
    expected = "7c5eac242f82bc2a56ea152ee2139bfa6988735c36a409eefbf2dec18009058f"
    assert expected == fingerprint(make_run(), "digest", "cuda")


def test_the_fingerprint_of_a_cell_is_the_same_for_all_its_seeds_and_no_runs() -> None:
    cells = {fingerprint(make_run(seed), "digest", "cpu", of_cell=True) for seed in range(3)}
    assert 1 == len(cells)
    assert cells.isdisjoint({fingerprint(make_run(seed), "digest", "cpu") for seed in range(3)})
    assert fingerprint(make_run(rounds=3), "digest", "cpu", of_cell=True) not in cells
