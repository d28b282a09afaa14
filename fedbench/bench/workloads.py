"""What is timed: averaging, local training and evaluation, each on work that is made from fixed seeds.

This file is also run outside the package, with another revision's fedbench (`fedbench.gate.turns`). So it imports
fedbench in its functions only: what that revision lacks concerns the workloads that use it, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedbench.core import ClientData, FlatModel

MODEL = "simple-cnn"
BATCH_SIZE = 50  # B
LEARNING_RATE = 0.01  # η
PARAMETERS = {"simple-cnn": 21_840, "paper-cnn": 1_663_370, "resnet50": 25_557_032}
MEMORY = 64 << 20  # bytes of models that are averaged over and over


@dataclass(frozen=True)
class Task:
    """What is called and timed.

    Attributes
    ----------
    call
        What is timed, with the arguments that `arguments` returns.
    arguments
        Makes the arguments of one call; not timed.
    is_right
        Whether the result of a call is what it should be.
    flops, num_bytes
        What one call does at least: floating-point operations, or bytes that it must move. 0 if not counted.
    """

    call: Callable[..., object]
    arguments: Callable[[], tuple[Any, ...]]
    is_right: Callable[[Any], bool]
    flops: int = 0
    num_bytes: int = 0


@dataclass(frozen=True)
class Workload:
    """A benchmark: how to make its task, and how often pytest-benchmark calls it.

    Attributes
    ----------
    only_in_bench
        Whether it is left out of comparisons with a revision, where a quicker one says the same.
    """

    name: str
    group: str
    make: Callable[[], Task]
    rounds: int
    params: Mapping[str, object] = field(default_factory=dict)
    only_in_bench: bool = False


def weighted_average(model: str, num_clients: int) -> Task:
    """The server's average. What must be moved is one reading of every client's model."""
    import torch

    from fedbench.core import ModelState, WeightedMean

    size = PARAMETERS[model]
    distinct = min(max(MEMORY // (4 * size), 2), num_clients)  # more than the caches hold, if possible
    states = [ModelState(torch.full((size,), float(index))) for index in range(distinct)]

    def average(clients: Iterator[ModelState]) -> ModelState:
        mean = WeightedMean()
        for state in clients:
            mean.add(state, 1 / num_clients)
        return mean.state()

    expected = sum(index % distinct for index in range(num_clients)) / num_clients
    return Task(
        average,
        lambda: (islice(cycle(states), num_clients),),
        lambda found: abs(found.vector[0].item() - expected) <= 1e-5 * (1 + expected),
        num_bytes=num_clients * states[0].vector.nbytes,
    )


def client_update(num_images: int, model: str = MODEL, batch_size: int = BATCH_SIZE) -> Task:
    """One epoch of minibatch SGD, from the same model each time."""
    from fedbench.core import Purpose, numpy_stream
    from fedbench.core.client import client_update

    trained, data = _flat_model(model), _images(num_images)
    start = trained.state()

    def arguments() -> tuple[Any, ...]:
        trained.load(start)
        return trained, data, 1, batch_size, LEARNING_RATE, numpy_stream(0, Purpose.BATCH_ORDER)

    return Task(client_update, arguments, lambda loss: loss > 0, flops=flops_of(num_images, model))


def round_of_ten() -> Task:
    """Ten clients train on 100 images each, one epoch, and are averaged."""
    from fedbench.core import fedavg
    from fedbench.models import build_model

    rounds = fedavg(
        partial(build_model, MODEL),
        [_images(100, seed) for seed in range(10)],
        rounds=1_000_000,  # as many as are asked for
        local_epochs=1,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
    )
    return Task(
        next,
        lambda: (rounds,),
        lambda result: tuple(result.selected_clients) == tuple(range(10)),
        flops=flops_of(1_000),
    )


def evaluation() -> Task:
    """One pass over 10,000 images."""
    from fedbench.core import evaluate

    model, data = _flat_model().module, _images(10_000)
    return Task(
        evaluate,
        lambda: (model, data.inputs, data.labels),
        lambda found: bool(found.num_examples == len(data)),
        flops=flops_of(len(data), is_training=False),
    )


def flops_of(number: int, name: str = MODEL, is_training: bool = True) -> int:
    """The FLOPs of the forward passes on `number` images, and of the backward passes, as the plain module does them.

    They are PyTorch's count of convolutions and matrix products in one batch, scaled up.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812 - the usual name
    from torch.utils.flop_counter import FlopCounterMode

    from fedbench.models import build_model

    model, batch = build_model(name), _images(BATCH_SIZE)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(is_training):
        logits = model(batch.inputs)
        if is_training:
            F.cross_entropy(logits, batch.labels).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops()) * number // BATCH_SIZE


def _images(number: int, seed: int = 0) -> ClientData:
    """`number` images of noise, (N, 1, 28, 28), with labels of ten classes in equal shares."""
    import torch

    from fedbench.core import ClientData

    stream = torch.Generator().manual_seed(seed)
    return ClientData(torch.randn(number, 1, 28, 28, generator=stream), torch.arange(number) % 10)


def _flat_model(name: str = MODEL) -> FlatModel:
    import torch

    from fedbench.core import FlatModel
    from fedbench.models import build_model

    torch.manual_seed(0)
    return FlatModel(build_model(name))


def _averaging(model: str, num_clients: int, rounds: int, only_in_bench: bool = False) -> Workload:
    name, params = f"weighted_average[{model}-{num_clients}]", {"model": model, "num_clients": num_clients}
    return Workload(name, "averaging", partial(weighted_average, model, num_clients), rounds, params, only_in_bench)


def _paper(model: str, batch_size: int, num_images: int) -> Workload:
    name, params = f"client_update_of_the_papers[{model}-{batch_size}]", {"model": model, "batch_size": batch_size}
    make = partial(client_update, num_images, model, batch_size)
    return Workload(name, "training", make, 10, params, only_in_bench=True)


WORKLOADS = (
    _averaging("simple-cnn", 10, 300),
    _averaging("simple-cnn", 100, 100, only_in_bench=True),
    _averaging("paper-cnn", 2, 100, only_in_bench=True),
    _averaging("paper-cnn", 10, 40),
    _averaging("paper-cnn", 100, 10, only_in_bench=True),
    _averaging("resnet50", 2, 15, only_in_bench=True),
    _averaging("resnet50", 10, 7, only_in_bench=True),
    Workload("training_step", "training", partial(client_update, BATCH_SIZE), 300),
    Workload("client_update", "training", partial(client_update, 500), 50, only_in_bench=True),
    _paper("2nn", 10, 600),
    _paper("2nn", 600, 600),
    _paper("cnn", 10, 150),
    _paper("cnn", 50, 150),
    Workload("round", "training", round_of_ten, 30),
    Workload("evaluate", "evaluation", evaluation, 15),
)


def set_up() -> None:
    """Prepare a process as the executors do: one PyTorch thread, freed memory is kept."""
    import torch

    from fedbench.executors.allocator import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
