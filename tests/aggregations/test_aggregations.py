"""The rules of aggregation against numbers worked by hand, and what a rule may return."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedbench.components import find
from fedbench.core import ClientData, ModelState, accumulator_of, fedavg
from fedbench.suites.cell import CellSpec

UNIFORM = torch.full((5,), 0.2)


def rule(name: str, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    found: Callable[[Tensor, Tensor], Tensor] = find("aggregation", name).make(**options)
    return found


def column(*values: float) -> Tensor:
    """A vector of one component for each client."""
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_the_mean_of_all_vectors_at_once_is_that_of_one_after_the_other() -> None:
    vectors, weights = torch.tensor([[1.0, 2.0], [5.0, 10.0]]), torch.tensor([0.75, 0.25])
    mean = rule("mean")
    accumulator = accumulator_of(mean)()
    for vector, weight in zip(vectors, weights.tolist(), strict=True):
        accumulator.add(ModelState(vector), weight)
    assert [2.0, 4.0] == mean(vectors, weights).tolist() == accumulator.state().vector.tolist()


def test_the_median_is_the_middle_or_the_mean_of_the_two_middle_ones() -> None:
    assert [3.0] == rule("median")(column(1, 100, 3, -5, 4), UNIFORM).tolist()
    assert [3.5] == rule("median")(column(1, 100, 3, 4), torch.full((4,), 0.25)).tolist()
    assert [7.0] == rule("median")(column(7), torch.ones(1)).tolist()
    assert [1.0, 5.0] == rule("median")(torch.tensor([[0, 9], [1, 5], [2, 4]]).float(), UNIFORM[:3]).tolist()


def test_a_trimmed_mean_leaves_out_as_many_at_each_end() -> None:
    values = column(1, 100, 3, -50, 5)
    assert [3.0] == rule("trimmed-mean")(values, UNIFORM).tolist()  # (1 + 3 + 5) / 3
    assert [3.0] == rule("trimmed-mean", byzantine_clients=2)(values, UNIFORM).tolist()


@pytest.mark.parametrize("name", ["mean", "median", "trimmed-mean", "krum"])
def test_rules_take_low_precision_and_constant_infinities(name: str) -> None:
    accumulator = accumulator_of(rule(name))()
    for value in (9.0, 1.0, 1.0, 1.0, 1.0):
        accumulator.add(ModelState(torch.tensor([value, -math.inf], dtype=torch.bfloat16)), 0.2)
    combined = accumulator.state().vector
    assert ([2.59375 if name == "mean" else 1.0, -math.inf], torch.bfloat16) == (combined.tolist(), combined.dtype)


def test_krum_is_the_model_with_the_nearest_neighbours() -> None:
    # m = 5 and f = 1: the scores are sums over 2 neighbours. 0: 1 + 4; 1: 1 + 1; 2: 1 + 4; 10: 64 + 81; 50: huge
    assert [1.0] == rule("krum")(column(0, 1, 2, 10, 50), UNIFORM).tolist()
    # all are equal but one: the first of equals
    vectors = torch.tensor([[9.0, 9.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert [1.0, 2.0] == rule("krum")(vectors, UNIFORM).tolist()


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e30])
def test_one_client_cannot_spoil_a_robust_rule(name: str, wrong: float) -> None:
    assert 1.0 <= rule(name)(column(1, 2, wrong, 3, 4), UNIFORM).item() <= 4.0


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({"aggregation": "krum", "num_clients": 4}, "krum: it needs 5 clients in each round, and 4 are selected"),
        ({"aggregation": "krum", "num_clients": 6, "byzantine_clients": 2}, "it needs 7 clients"),
        ({"aggregation": "trimmed-mean"}, "trimmed-mean: it needs 3 clients in each round, and 2 are selected"),
        ({"aggregation": "krum", "num_clients": 10, "client_fraction": 0.4}, "raise num_clients or client_fraction"),
        ({"aggregation": "trimmed-mean", "byzantine_clients": 0}, "greater than or equal to 1"),
        ({"aggregation": "mean", "byzantine_clients": 1}, "mean does not read it"),
        ({"aggregation": "medain"}, "did you mean median?"),
        (
            {"aggregation": "aligned", "algorithm": "scaffold"},
            "order of units, but not in what clients of scaffold send",
        ),
        ({"aggregation": "aligned", "align_by": "activation"}, "align_by"),
        ({"aggregation": "aligned", "public_examples": 0}, "public_examples"),
        ({"aggregation": "mean", "repair": True}, "mean does not read it; leave it out, or set aggregation to aligned"),
        (
            {"aggregation": "aligned", "repair": True},
            "clients hold all but 0 of 4000 training examples, but 1000 must be",
        ),
        (
            {"aggregation": "aligned", "align_by": "activations", "examples_per_client": 1600},
            "clients hold all but 800 of 4000 training examples, but 1000 must be public; lower public_examples or set",
        ),
    ],
)
def test_what_a_rule_needs_is_asked_of_the_suite(fields: dict[str, Any], needed: str) -> None:
    with pytest.raises(ValueError, match=needed.replace("?", r"\?")):
        CellSpec(**fields)


def test_alignment_goes_with_servers_that_have_a_memory_and_asks_for_public_examples_only_if_it_reads_them() -> None:
    for algorithm in ("fedprox", "fedavgm", "fedadam", "fedyogi"):
        CellSpec(aggregation="aligned", algorithm=algorithm)
    CellSpec(aggregation="aligned", repair=True, examples_per_client=1500)  # type: ignore[call-arg]
    too_much = CellSpec(aggregation="aligned", repair=True, examples_per_client=3000)  # type: ignore[call-arg]
    assert "needs 2 x 3000 = 6000 training examples" in str(too_much.shortfall())  # skipped, as with any aggregation


def test_a_rules_own_number_of_clients_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class Own:\n    min_clients = '3'\n    def __call__(self, v, w): return v[0]\n")
    with pytest.raises(ValueError, match=r"its min_clients is '3'; it must be a whole number"):
        CellSpec.model_validate({"aggregation": f"{tmp_path}/own.py:Own"})


# In a run


def clients(*sizes: int) -> list[ClientData]:
    made = []
    for number, size in enumerate(sizes):
        stream = torch.Generator().manual_seed(number)
        inputs = torch.randn(size, 3, generator=stream)
        made.append(ClientData(inputs, torch.randint(2, (size,), generator=stream)))
    return made


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def run(rule: Callable[..., Any], sizes: tuple[int, ...] = (4, 9, 5, 6, 7), **options: Any) -> Any:
    options = {"rounds": 1, "local_epochs": 1, "learning_rate": 0.1} | options
    updates: list[Any] = []
    *_, result = fedavg(build, clients(*sizes), aggregation=accumulator_of(rule), observe=updates.append, **options)
    return result, updates


@pytest.mark.parametrize("name", ["mean", "median", "trimmed-mean", "krum"])
@pytest.mark.parametrize("weights", ["examples", "uniform"])
def test_the_server_has_what_the_rule_makes_of_the_clients_models(name: str, weights: Any) -> None:
    result, updates = run(rule(name), weights=weights)
    vectors = torch.stack([update.state.vector for update in updates])
    shares = torch.tensor([4, 9, 5, 6, 7]) / 31 if weights == "examples" else UNIFORM
    assert torch.allclose(rule(name)(vectors, shares), result.server.model.vector, atol=1e-6)


def test_uniform_weights_count_all_clients_the_same_in_the_loss_too() -> None:
    result, updates = run(rule("mean"), weights="uniform")
    assert result.train_loss == pytest.approx(sum(update.loss for update in updates) / 5)


def test_a_rule_sees_vectors_and_weights_and_no_counters() -> None:
    seen: list[Any] = []

    def first(vectors: Tensor, weights: Tensor) -> Tensor:
        seen.append((vectors.shape, weights.tolist()))
        return vectors[0]

    result, _ = run(first, (2, 6))
    # 3·2 + 2 of the dense layer, 2 + 2 of BatchNorm and its mean and variance
    assert [((2, 16), [0.25, 0.75])] == seen
    assert [1] == [counter.item() for counter in result.server.model.counters]


def test_clients_without_examples_may_leave_too_few() -> None:
    with pytest.raises(ValueError, match="aggregation: the rule needs 5 clients in a round, and 4 took part"):
        run(rule("krum"), participants=[0, 1, 3, 4])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda vectors, _: vectors, r"returned shape \(5, 16\) and type torch.float32 instead of a vector"),
        (lambda vectors, _: vectors[0, :3], r"returned shape \(3,\) .* of shape \(16,\) and type torch.float32"),
        (lambda vectors, _: vectors[0].double(), r"returned shape .* and type torch.float64 instead of"),
        (lambda vectors, _: vectors[0].numpy(), "returned a ndarray instead of"),
        (lambda *_: None, "returned a NoneType instead of"),
        (lambda vectors, _: vectors[0] * math.nan, "values that are not finite, although all models are"),
    ],
)
def test_a_rule_that_returns_what_it_must_not_is_one_line(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"aggregation: the rule .*{said}"):
        run(wrong)
