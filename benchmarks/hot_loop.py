"""The hot loop with every core busy, against what all cores can do: the figures of docs/explanation/performance.md.

As many processes as there are cores train and evaluate simple-cnn at once, as a suite's workers do. The yardsticks are
measured in this process just before and after, and averaging in between.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import torch

from fedbench.bench.yardsticks import measure
from fedbench.core import ClientData, FlatModel, ModelState, Purpose, WeightedMean, evaluate, numpy_stream
from fedbench.core.client import client_update
from fedbench.executors.allocator import keep_freed_memory
from fedbench.models import build_model

STEP_FLOPS = 129_750_000  # B = 50, forward and backward; fedbench/bench/workloads.py counts it
IMAGE_FLOPS = 961_000  # forward
NUM_TEST_IMAGES = 10_000
PARAMETERS, NUM_MODELS = 1_663_370, 10


def images(number: int) -> ClientData:
    """Noise with labels of ten classes."""
    return ClientData(torch.randn(number, 1, 28, 28), torch.arange(number) % 10)


def repeated(call: Callable[[], object], repeats: int, start: Barrier | None = None) -> list[float]:
    """Seconds of each call after two that are not counted."""
    for _ in range(2):
        call()
    if start:
        start.wait()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def work(start: Barrier, results: object) -> None:
    """One busy core: seconds a step, and seconds an evaluation."""
    torch.set_num_threads(1)
    keep_freed_memory()
    model, client, test_set = FlatModel(build_model("simple-cnn")), images(500), images(NUM_TEST_IMAGES)
    order = numpy_stream(0, Purpose.BATCH_ORDER)
    steps = repeated(lambda: client_update(model, client, 1, 50, 0.01, order), 150, start)
    evaluations = repeated(lambda: evaluate(model.module, test_set.inputs, test_set.labels), 25, start)
    results.put((statistics.median(steps) / 10, statistics.median(evaluations)))  # type: ignore[attr-defined]


def all_cores(num_cores: int) -> tuple[float, float]:
    """Wall seconds a step and an evaluation with every core busy: a core's median over the number of cores."""
    context = get_context("spawn")
    start, results = context.Barrier(num_cores), context.SimpleQueue()
    processes = [context.Process(target=work, args=(start, results)) for _ in range(num_cores)]
    for process in processes:
        process.start()
    measured = [results.get() for _ in processes]
    for process in processes:
        process.join()
    step, evaluation = (statistics.mean(times) / num_cores for times in zip(*measured, strict=True))
    return step, evaluation


def averaging() -> float:
    """Seconds for the weighted average of ten models of 1.7 million parameters, one thread."""
    torch.set_num_threads(1)
    keep_freed_memory()
    states = [ModelState(torch.randn(PARAMETERS)) for _ in range(NUM_MODELS)]

    def average_all() -> None:
        mean = WeightedMean()
        for state in states:
            mean.add(state, 1 / NUM_MODELS)

    return statistics.median(repeated(average_all, 50))


def importing() -> float:
    """Seconds that ``import fedbench`` adds to starting Python."""
    script = "import time; began = time.perf_counter(); import fedbench; print(time.perf_counter() - began)"
    command = [sys.executable, "-c", script]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603 - our own interpreter
        for _ in range(9)
    )


def once() -> dict[str, float]:
    """Every figure, by name."""
    before = measure()
    step, evaluation = all_cores(before.num_cores)
    average, imported = averaging(), importing()
    yardsticks = before.mean(measure())
    test_flops, read = IMAGE_FLOPS * NUM_TEST_IMAGES, 4 * PARAMETERS * NUM_MODELS
    return {
        "training step, all cores busy, ms": step * 1e3,
        "training step, of the yardstick, x": step * yardsticks.flop_rate_all_cores / STEP_FLOPS,
        "evaluation of 10,000 images, all cores busy, ms": evaluation * 1e3,
        "evaluation, of the yardstick, x": evaluation * yardsticks.flop_rate_all_cores / test_flops,
        "averaging 10 models of 1.7 M, one thread, ms": average * 1e3,
        "averaging, of reading them once at copy speed, x": average * yardsticks.bandwidth / read,
        "import fedbench, ms": imported * 1e3,
        "yardstick, one thread, GFLOP/s": yardsticks.flop_rate / 1e9,
        "yardstick, all cores, GFLOP/s": yardsticks.flop_rate_all_cores / 1e9,
        "yardstick, one thread, GB/s": yardsticks.bandwidth / 1e9,
    }


def main() -> None:
    """Measure several times and print medians with the smallest and largest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON instead of a table")
    options = parser.parse_args()
    runs = [once() for _ in range(options.repeats)]
    if options.json:
        print(json.dumps(runs, indent=2))
        return
    print("| figure | median | range |\n| --- | --- | --- |")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"| {name} | {statistics.median(values):.3g} | {min(values):.3g}–{max(values):.3g} |")


if __name__ == "__main__":
    main()
