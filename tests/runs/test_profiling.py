"""A run with PyTorch's profiler: the command, the parts, and that no number moves."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Done, fedbench_here
from process import TINY as SUITE
from process import complaint, fedbench, notices

from fedbench.executors import in_process
from fedbench.measures import TIMES, RunResult, Verdict
from fedbench.reports.profile import profile_json, profile_summary
from fedbench.runs.checkpoints import load_checkpoint
from fedbench.runs.computing import bits_depend_on, computed_with
from fedbench.runs.data import DataSource
from fedbench.runs.events import Event, Job
from fedbench.runs.profiling import MAX_STEPS, Recorder, recordable_rounds
from fedbench.runs.suite_run import Executor, run_suite
from fedbench.runs.traces import PARTS, Span, own_seconds, read_trace
from fedbench.runs.work import RunWork
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.tracking.memory import MemoryTracker
from fedbench.util.errors import DataError

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}
DATA = DataSource()


def make_run(seed: int = 0, **fields: Any) -> RunSpec:
    return RunSpec(suite="s", scenario="a", cell="a/b c", spec=CellSpec(**(TINY | fields)), seed=seed)


def labels(path: Path) -> list[str]:
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return [event["name"] for event in events if event["name"].startswith("fedbench/")]


# The command


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A suite of two runs with --profile and --json."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "tiny.yaml").write_text(SUITE)
    return folder, fedbench("run", "tiny.yaml", "--profile", "--json", folder=folder)


def test_the_first_run_is_recorded_in_a_trace_next_to_the_store(ran: tuple[Path, Done]) -> None:
    folder, done = ran
    found = json.loads(done.out)
    profile = found["profile"]
    assert (0, 2, "pair", 0, 2) == (done.code, found["executed"], *(profile[key] for key in ("run", "seed", "rounds")))
    (path,) = (folder / "mlruns" / "profiles" / "tiny").iterdir()
    assert path == folder / profile["path"]
    assert re.fullmatch(r"\d{8}T\d{6}Z-pair-seed=0\.json\.gz", path.name)
    found_labels = labels(path)
    assert {f"fedbench/{name}" for name in (*PARTS, "run")} == set(found_labels)
    counts = {name: found_labels.count(f"fedbench/{name}") for name in ("run", "training", "averaging", "data")}
    assert {"run": 1, "training": 4, "averaging": 4, "data": 1} == counts  # two clients, two rounds


def test_the_parts_exclude_each_other_and_their_sum_is_the_recorded_time(ran: tuple[Path, Done]) -> None:
    profile = json.loads(ran[1].out)["profile"]
    assert {*PARTS, "other"} == profile["parts"].keys()
    assert all(seconds > 0 for seconds in profile["parts"].values())
    assert profile["seconds"] == pytest.approx(sum(profile["parts"].values()), rel=1e-9)
    trace = json.loads(gzip.decompress((ran[0] / profile["path"]).read_bytes()))["traceEvents"]
    (whole,) = (event["dur"] for event in trace if event["name"] == "fedbench/run")
    assert profile["seconds"] == pytest.approx(whole / 1e6, rel=1e-9)


def test_the_summary_is_one_screen_on_standard_error_without_a_word_of_the_profiler(ran: tuple[Path, Done]) -> None:
    done = ran[1]
    lines = notices(done)
    profile = json.loads(done.out)["profile"]
    assert f"Profile of pair seed=0: 2 rounds, {profile['seconds']:.3f} s recorded" == lines[0]
    parts, operators = (lines.index(next(line for line in lines if line.startswith(f"{head} "))) for head in HEADS)
    assert [*PARTS, "other"] == [line.split()[0] for line in lines[parts + 1 : operators - 1]]
    assert all(re.search(r" \d+\.\d{3} +\d+\.\d% +\d+$", line) for line in lines[operators + 1 : operators + 11])
    assert any(line.startswith("aten::") for line in lines[operators + 1 : operators + 11])
    ends = ["", f"Seconds of an operator are its own on the CPU. The trace: {profile['path']}"]
    assert ends == lines[operators + 11 : -1]
    assert "https://ui.perfetto.dev" in lines[-1]
    assert len(lines) < 25
    assert all(len(line) <= 80 for line in lines if profile["path"] not in line and "perfetto" not in line)


HEADS = ("part", "operator")


def test_if_all_is_finished_one_line_says_so(ran: tuple[Path, Done]) -> None:
    folder, _ = ran
    done = fedbench_here("run", "tiny.yaml", "--profile", "--json", folder=folder)
    assert (0, 0, None) == (done.code, json.loads(done.out)["executed"], json.loads(done.out)["profile"])
    message = "Nothing to profile: no run was computed. With --fresh the finished runs are computed again."
    assert [message] == notices(done)


def test_a_profile_needs_one_worker(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    message = complaint(fedbench_here("run", "tiny.yaml", "--profile", "--workers", "2", folder=tmp_path))
    assert "--profile records one process, not 2: leave --workers out, or set it to 1" == message


# Recording


def computed(
    folder: Path, *runs: RunSpec, execute: Executor = in_process.execute, tracker: MemoryTracker | None = None
) -> tuple[Recorder, MemoryTracker]:
    recorder, tracker = Recorder(folder), tracker or MemoryTracker()
    list(run_suite(runs, DATA, tracker, recorder.recorded(execute)))
    return recorder, tracker


def test_no_number_moves(tmp_path: Path) -> None:
    runs = [make_run(), make_run(1, init="independent")]
    _, recorded = computed(tmp_path, *runs)
    plain = MemoryTracker()
    list(run_suite(runs, DATA, plain, in_process.execute))
    for one, other in zip(plain.runs, recorded.runs, strict=True):
        assert (one.fingerprint, one.result) == (other.fingerprint, other.result)
        for before, after in zip(one.rounds, other.rounds, strict=True):
            assert before.keys() == after.keys()
            assert all(before[name] == after[name] for name in before.keys() - TIMES)
        assert one.final.model is not None
        assert other.final.model is not None
        state = other.final.model.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in one.final.model.state_dict().items())


def test_five_rounds_are_recorded_of_the_first_run_and_nothing_of_the_next(tmp_path: Path) -> None:
    recorder, tracker = computed(tmp_path, make_run(rounds=7), make_run(1))
    assert recorder.profile is not None
    assert (5, [7, 2]) == (recorder.profile.rounds, [len(run.rounds) for run in tracker.runs])
    (path,) = tmp_path.iterdir()
    assert (path, 10) == (recorder.profile.path, labels(path).count("fedbench/averaging"))
    assert "a-b-c-seed=0.json.gz" == path.name.partition("Z-")[2]


def test_rounds_re_emitted_from_a_checkpoint_do_not_count(tmp_path: Path) -> None:
    run, tracker = make_run(rounds=8), MemoryTracker(checkpoints=tmp_path / "checkpoints")
    running = run_suite([run], DATA, tracker, interrupted(in_process.execute, after=2))
    with pytest.raises(KeyboardInterrupt):
        list(running)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.ckpt")
    made_by = bits_depend_on(computed_with(run.spec, "cpu"))
    kept = load_checkpoint(checkpoint, tracker.runs[0].fingerprint, made_by)
    assert kept is not None
    recorder, _ = computed(tmp_path / "profiles", run, tracker=tracker)
    assert recorder.profile is not None
    assert (3, 5) == (kept.round, recorder.profile.rounds)
    assert 10 == labels(recorder.profile.path).count("fedbench/averaging")
    assert 8 == len(tracker.runs[0].rounds)


def interrupted(execute: Executor, after: int) -> Executor:
    """An executor that is interrupted after it emitted `after` rounds and computed another."""

    def execute_some(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
        for count, event in enumerate(execute(jobs, work)):
            if count == after:
                raise KeyboardInterrupt
            yield event

    return execute_some


@pytest.mark.parametrize("after", [0, 1])
def test_an_interruption_stops_the_profiler_and_leaves_no_file(tmp_path: Path, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        computed(tmp_path / "profiles", make_run(), execute=interrupted(in_process.execute, after))
    assert not torch.autograd._profiler_enabled()
    assert [] == list(tmp_path.iterdir())


def test_a_consumer_that_goes_away_stops_the_profiler(tmp_path: Path) -> None:
    running = Recorder(tmp_path).recorded(in_process.execute)(iter([Job(make_run())]), RunWork(DATA))
    next(iter(running))
    assert torch.autograd._profiler_enabled()
    running.close()  # type: ignore[attr-defined]
    assert not torch.autograd._profiler_enabled()
    assert [] == list(tmp_path.iterdir())


def test_a_run_that_fails_is_recorded_as_far_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedbench.runs.simulation.evaluate", lambda *_: 1 / 0)
    recorder, tracker = computed(tmp_path, make_run())
    assert RunResult(Verdict.FAILED, "ZeroDivisionError: division by zero") == tracker.runs[0].result
    assert recorder.profile is not None
    assert (0, 2) == (recorder.profile.rounds, labels(recorder.profile.path).count("fedbench/averaging"))


def test_a_trace_that_cannot_be_written_costs_no_run_and_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "profiles").write_text("")
    recorder, tracker = computed(tmp_path / "profiles" / "s", make_run(), make_run(1))
    assert 2 == len(tracker.finished_runs())
    with pytest.raises(DataError, match=r"the profile cannot be written: Not a directory \(.*profiles/s\)"):
        profile_summary(recorder)
    assert profile_json(recorder.profile) is None


def test_of_a_large_run_fewer_rounds_are_recorded_and_of_a_larger_one_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recordable(steps_a_round: int) -> int:
        return recordable_rounds(
            CellSpec(**TINY, batch_size=20).model_copy(update={"local_epochs": steps_a_round // 2})
        )

    assert [5, 2, 1, 0] == [recordable(steps) for steps in (600, MAX_STEPS // 2, MAX_STEPS, MAX_STEPS + 2)]
    monkeypatch.setattr("fedbench.runs.profiling.MAX_STEPS", 1)
    recorder, _ = computed(tmp_path, make_run())
    message = (
        "Nothing was profiled: a round of a/b c has 2 local steps, and 1 can be recorded; make it smaller, as with "
        "--set local_epochs=1"
    )
    assert message == profile_summary(recorder)


# Reading a trace


def test_own_time_is_without_what_lies_inside_on_the_same_thread() -> None:
    spans = [
        Span("", "outer", 1, 0.0, 10e6),
        Span("", "inner", 1, 2e6, 3e6),
        Span("", "innermost", 1, 2e6, 1e6),
        Span("", "inner", 1, 5e6, 1e6),  # begins when the other ends
        Span("", "elsewhere", 2, 3e6, 2e6),
        Span("", "outer", 1, 10e6, 1e6),
    ]
    seconds, calls = own_seconds(reversed(spans))
    assert {"outer": 10 - 3 - 1 + 1, "inner": 3 - 1 + 1, "innermost": 1, "elsewhere": 2} == seconds
    assert {"outer": 2, "inner": 2, "innermost": 1, "elsewhere": 1} == calls


def test_a_trace_is_read_by_parts_and_operators() -> None:
    def event(name: str, kind: str, start: int, duration: int) -> dict[str, Any]:
        return {"ph": "X", "cat": kind, "name": name, "tid": 7, "ts": start * 1e6, "dur": duration * 1e6, "args": {}}

    note = "user_annotation"
    events = [
        {"ph": "M", "name": "process_name", "tid": 7, "ts": 0.0, "args": {"name": "python"}},
        event("fedbench/run", note, 0, 100),
        event("fedbench/averaging", note, 10, 60),
        event("fedbench/training", note, 20, 30),
        event("somebody's own block", note, 22, 5),
        event("aten::linear", "cpu_op", 25, 10),
        event("aten::addmm", "cpu_op", 26, 8),
        event("fedbench/training", "gpu_user_annotation", 25, 40),
        event("fedbench/training", note, 25, 40) | {"tid": 8},
        event("kernel", "kernel", 26, 30),
    ]
    parts, operators = read_trace(json.dumps({"traceEvents": events}).encode())
    zero = dict.fromkeys(("evaluation", "data", "tracking"), 0.0)
    assert {"training": 30, "averaging": 30, "other": 40, **zero} == parts
    assert [("aten::addmm", 8, 1), ("aten::linear", 2, 1)] == [(o.name, o.seconds, o.calls) for o in operators]


@pytest.mark.parametrize("trace", [b"", b'{"traceEvents": [', b'{"traceEvents": []}'])
def test_a_trace_that_is_not_whole_is_an_error(trace: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_trace(trace)
