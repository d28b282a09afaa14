"""One run computed: its events, its numbers, and how it ends."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedbench.core import ClientUpdate, align, average_model_parameters, evaluate, model_with, repair, select_clients
from fedbench.datasets import Dataset, load_dataset
from fedbench.measures import TIMES, Verdict
from fedbench.models import build_model
from fedbench.runs import simulation
from fedbench.runs.checkpoints import Checkpoint, load_checkpoint
from fedbench.runs.clients import clients_of
from fedbench.runs.computing import bits_depend_on, computed_with
from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.metrics import THETAS, digest, unmet_requirement
from fedbench.runs.simulation import fedavg_rounds, simulate
from fedbench.suites.schema import CellSpec, RunSpec

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}


def make_run(seed: int = 0, **fields: Any) -> RunSpec:
    return RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**(TINY | fields)), seed=seed)


def done(run: RunSpec, dataset: Dataset) -> RunDone:
    *_, event = simulate(Job(run), dataset)
    assert isinstance(event, RunDone)
    return event


def final(end: RunDone) -> Checkpoint:
    assert end.final is not None
    return end.final


def final_model(end: RunDone) -> nn.Module:
    return model_with(final(end).server.model, like=build_model(end.run.spec.model))


def accuracy(model: nn.Module, dataset: Dataset) -> float:
    """The share of right answers on the test set, by the plainest way there is."""
    with torch.no_grad():
        answers = model.eval()(dataset.normalise(dataset.test_images)).argmax(dim=1)
    return int((answers == dataset.test_labels).sum()) / len(answers)


def client_models(run: RunSpec, dataset: Dataset) -> tuple[tuple[nn.Module, ...], nn.Module]:
    """The last round's own models of the clients, and their average."""
    updates: list[ClientUpdate] = []
    clients = clients_of(run, dataset, torch.device("cpu"))
    *_, result = fedavg_rounds(run.spec, run.seed, clients, observe=updates.append)
    own = updates[-len(result.selected_clients) :]
    return tuple(model_with(update.state, result.model) for update in own), result.model


def untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMES}


def vector(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().double() for parameter in model.parameters()])


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("mnist-5k")


def test_a_run_ends_each_round_in_order_and_is_done(dataset: Dataset) -> None:
    run = make_run(rounds=3)
    events = list(simulate(Job(run), dataset))
    assert [RoundDone, RoundDone, RoundDone, RunDone] == [type(event) for event in events]
    assert [1, 2, 3] == [event.round for event in events if isinstance(event, RoundDone)]
    assert all(run is event.run for event in events)


EVERY_ROUND = {
    *("accuracy", "balanced_accuracy", "loss", "majority_rate", "train_loss", "client_drift"),
    *("client_drift/0", "client_drift/1"),
    *(f"recall/{digit}" for digit in range(10)),
    *("training_seconds", "evaluation_seconds"),
}
LAST_ROUND = {"averaging_gain", "client_accuracy/0", "client_accuracy/1"}


def test_the_result_has_the_last_rounds_metrics_without_the_times(dataset: Dataset) -> None:
    first_round, last_round, end = simulate(Job(make_run()), dataset)
    assert isinstance(first_round, RoundDone)
    assert isinstance(last_round, RoundDone)
    assert isinstance(end, RunDone)
    assert (EVERY_ROUND, EVERY_ROUND | LAST_ROUND) == (set(first_round.metrics), set(last_round.metrics))
    by_client = {f"client_accuracy/{client}": value for client, value in end.result.client_accuracy.items()}
    assert untimed(last_round.metrics) == dict(end.result.metrics) | by_client
    assert EVERY_ROUND | LAST_ROUND == {*end.result.metrics, *by_client, "training_seconds", "evaluation_seconds"}


def test_the_times_of_the_rounds_are_positive_and_less_than_the_run_took(dataset: Dataset) -> None:
    start = time.perf_counter()
    *rounds, _ = simulate(Job(make_run(rounds=3)), dataset)
    elapsed = time.perf_counter() - start
    times = [event.metrics[name] for event in rounds for name in ("training_seconds", "evaluation_seconds")]  # type: ignore[union-attr]
    assert all(seconds > 0 for seconds in times)
    assert sum(times) < elapsed


def test_the_final_state_is_the_final_model_and_scores_what_the_result_says(dataset: Dataset) -> None:
    end = done(make_run(), dataset)
    evaluation = evaluate(final_model(end), dataset.normalise(dataset.test_images), dataset.test_labels)
    assert evaluation.accuracy == end.result.metrics["accuracy"]
    assert 0.1 == end.result.metrics["majority_rate"]  # 100 test images of each of ten classes
    assert pytest.approx(evaluation.loss, abs=1e-6) == end.result.metrics["loss"]


def test_the_final_confusion_matrix_counts_every_test_image_once(dataset: Dataset) -> None:
    end = done(make_run(learning_rate=0.1), dataset)
    confusion = final(end).confusion
    assert [100] * 10 == confusion.sum(dim=1).tolist()
    assert end.result.metrics["accuracy"] == int(confusion.diagonal().sum()) / 1000


def test_the_recall_of_a_class_is_the_share_of_its_images_that_is_found(dataset: Dataset) -> None:
    end = done(make_run(learning_rate=0.1, examples_per_client=50, local_epochs=5), dataset)
    with torch.no_grad():
        answers = final_model(end).eval()(dataset.normalise(dataset.test_images)).argmax(dim=1)
    for digit in range(10):
        of_class = dataset.test_labels == digit
        assert int((answers[of_class] == digit).sum()) / 100 == end.result.metrics[f"recall/{digit}"]


def test_a_slash_in_a_classs_name_is_no_slash_in_the_metrics_name(dataset: Dataset) -> None:
    named = replace(dataset, class_names=("none/other", *dataset.class_names[1:]))
    assert "recall/none or other" in done(make_run(), named).result.metrics


def test_the_drift_is_each_clients_distance_to_the_average_and_its_mean(dataset: Dataset) -> None:
    run = make_run(num_clients=3, learning_rate=0.1)
    models, average = client_models(run, dataset)
    expected = [float((vector(model) - vector(average)).pow(2).sum().sqrt()) for model in models]
    metrics = done(run, dataset).result.metrics
    assert pytest.approx(expected, rel=1e-5) == [metrics[f"client_drift/{client}"] for client in range(3)]
    assert pytest.approx(sum(expected) / 3, rel=1e-5) == metrics["client_drift"]
    assert min(expected) > 0.01


def test_the_gain_of_averaging_is_against_the_mean_of_the_clients_own_models(dataset: Dataset) -> None:
    run = make_run(num_clients=3, rounds=1, learning_rate=0.2, examples_per_client=50, local_epochs=5)
    models, average = client_models(run, dataset)
    own = [accuracy(model, dataset) for model in models]
    result = done(run, dataset).result
    assert dict(enumerate(own)) == result.client_accuracy
    assert pytest.approx(accuracy(average, dataset) - sum(own) / 3, abs=1e-12) == result.metrics["averaging_gain"]


def test_the_models_between_the_two_clients_are_measured_if_the_scenario_asks_for_it(dataset: Dataset) -> None:
    run = make_run(interpolation=True, learning_rate=0.2, examples_per_client=50, init="independent", rounds=1)
    end = done(run, dataset)
    line = {theta: (loss, right) for theta, loss, right in final(end).interpolation}
    assert [pytest.approx(-0.2 + 0.05 * step) for step in range(29)] == list(line) == list(THETAS["test"])
    own = end.result.client_accuracy
    assert (own[1], own[0]) == (line[0.0][1], line[1.0][1])  # θ·w + (1 − θ)·w′, where w is the first client's
    assert pytest.approx(end.result.metrics["accuracy"], abs=0.002) == line[0.5][1]  # the average, but for rounding
    assert pytest.approx(end.result.metrics["loss"], rel=1e-4) == line[0.5][0]
    (first, second), _ = client_models(run, dataset)
    beyond = build_model("simple-cnn")
    torch.nn.utils.vector_to_parameters((1.2 * vector(first) - 0.2 * vector(second)).float(), beyond.parameters())
    assert pytest.approx(accuracy(beyond, dataset), abs=0.002) == line[1.2][1]
    straight = {theta: theta * line[1.0][0] + (1 - theta) * line[0.0][0] for theta in line if 0 <= theta <= 1}
    assert max(line[theta][0] - straight[theta] for theta in straight) == end.result.metrics["barrier"] > 0
    plain = done(make_run(), dataset)
    assert () == final(plain).interpolation
    assert "barrier" not in plain.result.metrics


def test_two_models_of_whose_clients_one_has_no_examples_are_not_interpolated(dataset: Dataset) -> None:
    options = {"partition": "dirichlet", "partition_alpha": 0.01, "examples_per_client": 2}
    end = done(make_run(seed=1, interpolation=True, **options), dataset)
    assert Verdict.FAILED is end.result.verdict
    assert "interpolation: it is between two models, and one of the two clients has no examples" == end.result.reason


def test_the_result_has_the_accuracy_of_each_clients_own_model(dataset: Dataset) -> None:
    end = done(make_run(num_clients=3, rounds=1, learning_rate=0.2, examples_per_client=50, local_epochs=5), dataset)
    assert [0, 1, 2] == list(end.result.client_accuracy)
    assert len(set(end.result.client_accuracy.values())) > 1
    assert all(0 <= value <= 1 for value in end.result.client_accuracy.values())


def test_one_clients_own_model_is_the_average(dataset: Dataset) -> None:
    end = done(make_run(num_clients=1), dataset)
    assert {0: end.result.metrics["accuracy"]} == end.result.client_accuracy


def test_more_than_twenty_clients_a_round_are_not_measured_one_by_one(dataset: Dataset) -> None:
    many = {"examples_per_client": 2, "rounds": 1}
    result = done(make_run(num_clients=21, **many), dataset).result
    assert {} == result.client_accuracy
    assert set() == {name for name in result.metrics if re.match("client_drift|averaging_gain", name)}
    few = done(make_run(num_clients=21, client_fraction=0.5, **many), dataset)
    assert select_clients(0, 1, range(21), 10) == list(few.result.client_accuracy)  # by the clients' own numbers


def test_a_run_that_learned_nothing_has_collapsed(dataset: Dataset) -> None:
    end = done(make_run(learning_rate=1e-6), dataset)
    assert Verdict.COLLAPSED is end.result.verdict
    assert re.search("predicts class|chance .10.0%.", end.result.reason or "")


def test_an_absurd_learning_rate_diverges_and_stops_early_and_its_last_round_is_measured_in_full(
    dataset: Dataset,
) -> None:
    events = list(simulate(Job(make_run(learning_rate=1e30, rounds=50)), dataset))
    end = events[-1]
    assert isinstance(end, RunDone)
    assert (Verdict.DIVERGED, "the loss is not finite") == (end.result.verdict, end.result.reason)
    assert not math.isfinite(end.result.metrics["loss"])
    assert len(events) < 10
    assert len(events) - 1 == len(final(end).history) == final(end).round
    assert {0, 1} == set(end.result.client_accuracy)
    assert "averaging_gain" in end.result.metrics


def test_an_accuracy_below_the_required_is_a_failure_with_both_numbers(dataset: Dataset) -> None:
    end = done(make_run(require_accuracy=1.0), dataset)
    assert Verdict.FAILED is end.result.verdict
    assert f"accuracy {end.result.metrics['accuracy']:.1%} is below the required 100.0%" == end.result.reason
    assert end.final is not None  # the model is there to be looked at


@pytest.mark.parametrize(
    ("fields", "history", "reason"),
    [
        ({}, [(0.1, 2.0), (0.0, 9.0)], None),
        ({"require_accuracy": 0.5}, [(0.9, 1.0), (0.5, 1.0)], None),
        ({"require_accuracy": 0.5}, [(0.9, 1.0), (0.4, 1.0)], "accuracy 40.0% is below the required 50.0%"),
        ({"require_loss_fall": True}, [(0.1, 2.0), (0.1, 3.0), (0.1, 1.9)], None),
        (
            {"require_loss_fall": True},
            [(0.1, 2.0), (0.1, 1.0), (0.1, 2.0)],
            "the training loss did not fall: 2.000 at first, 2.000 at last",
        ),
        (
            {"require_loss_fall": True},
            [(0.1, 2.0), (0.1, math.nan)],
            "the training loss did not fall: 2.000 at first, nan at last",
        ),
    ],
)
def test_what_a_scenario_requires(
    fields: dict[str, Any], history: list[tuple[float, float]], reason: str | None
) -> None:
    rounds = [{"accuracy": accuracy, "train_loss": loss} for accuracy, loss in history]
    assert reason == unmet_requirement(CellSpec(**fields), rounds)


def test_an_error_in_the_model_is_a_failed_run_with_its_reason_in_one_line(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(spec: CellSpec) -> None:
        raise RuntimeError(f"cannot\nbuild {spec.model}")

    monkeypatch.setattr(CellSpec, "build_model", broken)
    (end,) = simulate(Job(make_run()), dataset)
    assert isinstance(end, RunDone)
    assert (Verdict.FAILED, "RuntimeError: cannot build simple-cnn") == (end.result.verdict, end.result.reason)
    assert ({}, None) == (end.result.metrics, end.final)


def test_an_interruption_is_not_a_failed_run(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(spec: CellSpec) -> None:
        del spec
        raise KeyboardInterrupt

    monkeypatch.setattr(CellSpec, "build_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(simulate(Job(make_run()), dataset))


def test_a_run_has_the_same_bits_each_time(dataset: Dataset) -> None:
    first, second = (done(make_run(seed=3, init="independent"), dataset) for _ in range(2))
    assert first.result == second.result
    assert_equal_ends(first, second)
    assert first.result.metrics != done(make_run(seed=4, init="independent"), dataset).result.metrics


def test_a_run_that_dies_after_some_rounds_emits_them_and_fails(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second_time(*_: Any) -> Any:
        if calls_left.pop() == 0:
            raise RuntimeError("no memory")
        return real(*_)

    calls_left = [0, 1]
    real = simulation.evaluate
    monkeypatch.setattr(simulation, "evaluate", second_time)
    first_round, end = simulate(Job(make_run(rounds=3)), dataset)
    assert isinstance(first_round, RoundDone)
    assert isinstance(end, RunDone)
    assert (Verdict.FAILED, "RuntimeError: no memory", None) == (end.result.verdict, end.result.reason, end.final)


# Checkpoints


def assert_equal_ends(one: RunDone, other: RunDone) -> None:
    """Equal to the last bit in all but the times."""
    first, second = final(one), final(other)
    assert one.result == other.result
    assert list(map(untimed, first.history)) == list(map(untimed, second.history))
    assert torch.equal(first.server.model.vector, second.server.model.vector)
    assert torch.equal(first.confusion, second.confusion)
    assert first.interpolation == second.interpolation


def interrupted_after(job: Job, dataset: Dataset, rounds: int) -> None:
    """Compute so many rounds and no more."""
    events = simulate(job, dataset)
    for _ in range(rounds):
        assert isinstance(next(events), RoundDone)
    events.close()  # type: ignore[attr-defined]


def count_rounds_trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rounds that are trained from now on, as they are."""
    trained: list[int] = []

    def counting(*arguments: Any) -> Iterable[Any]:
        for result in fedavg_rounds(*arguments):
            trained.append(result.round)
            yield result

    monkeypatch.setattr(simulation, "fedavg_rounds", counting)
    return trained


FOUR_ROUNDS: dict[str, Any] = {"rounds": 4, "init": "independent", "learning_rate": 0.1, "batch_size": 7}


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_a_run_resumes_after_each_of_its_rounds_and_ends_with_the_same_bits(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """With clients drawn by chance too. After the last round nothing is left to train."""
    run = make_run(num_clients=4, client_fraction=0.5, **FOUR_ROUNDS)
    job = Job(run, "fingerprint", "of the cell", tmp_path / "run.ckpt")
    expected = done(run, dataset)
    interrupted_after(job, dataset, rounds)
    trained = count_rounds_trained(monkeypatch)
    *emitted, end = simulate(job, dataset)
    assert isinstance(end, RunDone)
    assert list(range(rounds + 1, 5)) == trained
    assert [1, 2, 3, 4] == [event.round for event in emitted if isinstance(event, RoundDone)]
    assert list(final(end).history) == [event.metrics for event in emitted if isinstance(event, RoundDone)]
    assert_equal_ends(expected, end)


def test_the_points_between_two_models_are_in_the_checkpoint_after_the_last_round(
    dataset: Dataset, tmp_path: Path
) -> None:
    run = make_run(interpolation=True)
    job = Job(run, "fingerprint", "of the cell", tmp_path / "run.ckpt")
    interrupted_after(job, dataset, 2)
    *_, end = simulate(job, dataset)
    assert isinstance(end, RunDone)
    assert_equal_ends(done(run, dataset), end)
    assert 29 == len(final(end).interpolation)


def test_the_models_between_the_two_clients_can_be_measured_on_all_training_data(dataset: Dataset) -> None:
    """Also on what is no client's own."""
    small = replace(dataset, train_images=dataset.train_images[:200], train_labels=dataset.train_labels[:200])
    end = done(make_run(interpolation=True, interpolation_set="train", learning_rate=0.1, rounds=1), small)
    line = {theta: (loss, right) for theta, loss, right in final(end).interpolation}
    assert [pytest.approx(-0.2 + 0.02 * step) for step in range(71)] == list(line) == list(THETAS["train"])
    average = evaluate(final_model(end), small.normalise(small.train_images), small.train_labels)
    assert pytest.approx(average.loss, rel=1e-4) == line[0.5][0]
    assert pytest.approx(average.accuracy, abs=0.01) == line[0.5][1]


def test_a_run_that_had_diverged_ends_so_without_training(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(make_run(learning_rate=1e30, rounds=50), "fingerprint", "of the cell", tmp_path / "run.ckpt")
    events: list[Event] = list(simulate(job, dataset))
    trained = count_rounds_trained(monkeypatch)
    again: list[Event] = list(simulate(job, dataset))
    assert [] == trained
    assert len(events) == len(again)
    assert isinstance(again[-1], RunDone)
    assert Verdict.DIVERGED is again[-1].result.verdict


def test_a_requirement_over_all_rounds_is_judged_after_resuming_too(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(require_loss_fall=True, learning_rate=10.0)
    job = Job(run, "fingerprint", "of the cell", tmp_path / "run.ckpt")
    interrupted_after(job, dataset, 1)
    *_, end = simulate(job, dataset)
    assert isinstance(end, RunDone)
    assert done(run, dataset).result == end.result
    assert Verdict.FAILED is end.result.verdict


def test_the_checkpoint_is_written_before_the_round_is_emitted_and_is_its_state(
    dataset: Dataset, tmp_path: Path
) -> None:
    job = Job(make_run(rounds=3), "fingerprint", "of the cell", tmp_path / "run.ckpt")
    made_by = bits_depend_on(computed_with(job.run.spec, "cpu"))
    for event in simulate(job, dataset):
        checkpoint = load_checkpoint(tmp_path / "run.ckpt", "fingerprint", made_by)
        assert checkpoint is not None
        if isinstance(event, RoundDone):
            assert (event.round, event.metrics) == (checkpoint.round, checkpoint.history[-1])
    assert ["run.ckpt"] == [path.name for path in tmp_path.iterdir()]


def test_a_checkpoint_of_another_run_fails_the_run_in_one_line(dataset: Dataset, tmp_path: Path) -> None:
    interrupted_after(Job(make_run(), "one", "of the cell", tmp_path / "run.ckpt"), dataset, 1)
    (end,) = simulate(Job(make_run(), "other", "of the cell", tmp_path / "run.ckpt"), dataset)
    assert isinstance(end, RunDone)
    assert f"checkpoint {tmp_path / 'run.ckpt'} belongs to another run" == end.result.reason


def test_each_round_has_the_digests_of_its_models_if_the_job_asks_for_them(dataset: Dataset) -> None:
    run = make_run(num_clients=2, rounds=2)
    rounds = [event for event in simulate(Job(run, digests=True), dataset) if isinstance(event, RoundDone)]
    again = [event for event in simulate(Job(run, digests=True), dataset) if isinstance(event, RoundDone)]
    assert [each.digests for each in rounds] == [each.digests for each in again]
    digests = [each.digests for each in rounds if each.digests]
    assert [{0, 1}, {0, 1}] == [set(each.clients) for each in digests]
    every = [value for each in digests for value in (each.model, *each.clients.values())]
    assert 6 == len(set(every))
    assert digest(final_model(done(run, dataset))) == digests[-1].model
    assert all(event.digests is None for event in simulate(Job(run), dataset) if isinstance(event, RoundDone))


def test_a_digest_is_of_every_bit_of_parameters_and_buffers() -> None:
    model = nn.BatchNorm1d(2)
    before = digest(model)
    assert 16 == len(before)
    with torch.no_grad():
        model.get_buffer("running_mean")[1] = torch.tensor(1e-30)
    assert before != digest(model)


# A target

LEARNING: dict[str, Any] = {"examples_per_client": 300, "learning_rate": 0.1, "local_epochs": 2, "rounds": 6}


def rounds_of(dataset: Dataset, job: Job | None = None, **fields: Any) -> tuple[list[dict[str, float]], RunDone]:
    *rounds, end = simulate(job or Job(make_run(**(LEARNING | fields))), dataset)
    assert isinstance(end, RunDone)
    untimed = [
        {name: value for name, value in event.metrics.items() if name not in TIMES}
        for event in rounds
        if isinstance(event, RoundDone)
    ]
    return untimed, end


def test_a_run_that_stops_at_its_target_has_the_rounds_of_one_that_does_not(dataset: Dataset) -> None:
    whole, end = rounds_of(dataset, target_accuracy=0.7)
    reached = next(t for t, metrics in enumerate(whole, start=1) if metrics["accuracy"] >= 0.7)
    assert 1 < reached < 6
    stopped, early = rounds_of(dataset, target_accuracy=0.7, stop_at_target=True)
    assert reached == len(stopped)
    assert whole[: reached - 1] == stopped[:-1]
    assert whole[reached - 1].items() <= stopped[-1].items()
    found = early.result.metrics["rounds_to_target"]
    assert reached - 1 < found <= reached
    assert found == end.result.metrics["rounds_to_target"] == whole[-1]["rounds_to_target"]


def test_a_target_that_is_not_reached_leaves_no_metric_and_stops_nothing(dataset: Dataset) -> None:
    rounds, end = rounds_of(dataset, target_accuracy=0.999, stop_at_target=True, rounds=2)
    assert 2 == len(rounds)
    assert "rounds_to_target" not in end.result.metrics
    assert Verdict.OK is end.result.verdict


def test_a_run_that_was_interrupted_at_its_target_trains_no_more(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(make_run(**LEARNING, target_accuracy=0.7, stop_at_target=True), "f", "c", tmp_path / "c")
    rounds, end = rounds_of(dataset, job)
    monkeypatch.setattr(simulation, "fedavg_rounds", None)
    again, same = rounds_of(dataset, job)
    assert (rounds, end.result) == (again, same.result)


def test_slow_checkpoints_are_made_rarely_but_always_at_the_end(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    clock = [0.0]

    def save(path: Path, fingerprint: str, checkpoint: Checkpoint, made_by: str) -> None:
        del path, fingerprint, made_by
        saved.append(checkpoint.round)
        clock[0] += 0.09

    def evaluated(*arguments: Any) -> Any:
        clock[0] += 1.0  # a round takes a second
        return evaluate(*arguments)

    monkeypatch.setattr(simulation, "FREE_SAVING", 0.02)
    monkeypatch.setattr(simulation, "save_checkpoint", save)
    monkeypatch.setattr(simulation, "evaluate", evaluated)
    monkeypatch.setattr(simulation.time, "monotonic", lambda: clock[0])
    list(simulate(Job(make_run(rounds=6, num_clients=21, examples_per_client=1), "f", "c", tmp_path / "c"), dataset))
    assert [1, 3, 5, 6] == saved  # 0.09 s is 5 % of 1.8 s


def test_a_run_resumes_from_its_last_checkpoint_though_later_rounds_were_emitted(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured before the checkpoint and after it counts as if there had been no interruption."""
    run = make_run(**(LEARNING | {"rounds": 4}), target_accuracy=0.5)
    job = Job(run, "fingerprint", "of the cell", tmp_path / "run.ckpt")
    saved: list[int] = []

    class OnlyTheFirst(simulation._Saving):
        def is_due(self) -> bool:
            return not saved

        def save(self, checkpoint: Checkpoint) -> None:
            saved.append(checkpoint.round)
            super().save(checkpoint)

    with monkeypatch.context() as patched:
        patched.setattr(simulation, "_Saving", OnlyTheFirst)
        interrupted_after(job, dataset, 3)
    assert [1] == saved
    trained = count_rounds_trained(monkeypatch)
    *emitted, end = simulate(job, dataset)
    assert isinstance(end, RunDone)
    assert ([2, 3, 4], [1, 2, 3, 4]) == (trained, [event.round for event in emitted if isinstance(event, RoundDone)])
    monkeypatch.undo()
    assert_equal_ends(done(run, dataset), end)
    assert "rounds_to_target" in end.result.metrics


@pytest.mark.parametrize("options", [{}, {"align_by": "activations"}, {"repair": True}], ids=str)
def test_an_aligned_average_is_what_core_makes_of_the_clients_models_on_public_examples(
    options: dict[str, Any], dataset: Dataset
) -> None:
    run = make_run(init="independent", aggregation="aligned", rounds=1, **options)
    clients, updates = clients_of(run, dataset, torch.device("cpu")), list[ClientUpdate]()
    (result,) = fedavg_rounds(run.spec, run.seed, clients, observe=updates.append)
    public = dataset.normalise(dataset.train_images[-1000:])
    first, second = (model_with(update.state, result.model) for update in updates)
    aligned = align(second, first, public, options.get("align_by", "weights"))
    expected = average_model_parameters([first, aligned], [1, 1])
    if "repair" in options:
        expected = repair(expected, [first, aligned], [1, 1], public)
    assert digest(expected) == digest(result.model)
    assert [digest(first), digest(aligned)] == [digest(model_with(each, result.model)) for each in result.aligned]


def test_a_run_without_enough_public_examples_fails_with_what_to_set(dataset: Dataset) -> None:
    """What the partition leaves is known when it has dealt."""
    fields = {"partition": "overlapping", "num_clients": 200, "examples_per_client": 100, "client_fraction": 0.0}
    end = done(make_run(**fields, aggregation="aligned", repair=True), dataset)
    assert Verdict.FAILED == end.result.verdict
    assert re.search(
        r"public_examples: clients hold all but \d+ of 4000 .* but 1000 must be public", str(end.result.reason)
    )
