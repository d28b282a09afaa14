"""One client's update by the kernels and by PyTorch, in turns on one core: docs/explanation/performance.md.

    python benchmarks/kernels.py

ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 hold PyTorch to AVX2.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from fedbench.bench.yardsticks import measure
from fedbench.core import ClientData, FlatModel, Purpose, evaluate, numpy_stream
from fedbench.core.client import client_update
from fedbench.executors.allocator import keep_freed_memory
from fedbench.kernels import Chain, Kernels
from fedbench.kernels.loading import load, usable_variants
from fedbench.models import build_model

WORKS = [  # model, batch size, examples of the client
    ("simple-cnn", 50, 500),
    ("simple-cnn-ham", 50, 250),
    ("2nn", 10, 600),
    ("2nn", 600, 600),
    ("cnn", 10, 100),
    ("cnn", 50, 200),
]
NUM_EVALUATED = 2_000
REPEATS = 15


def examples(chain: Chain, number: int) -> ClientData:
    """Noise with labels of all classes."""
    return ClientData(torch.randn(number, *chain.image_shape), torch.arange(number) % chain.units[-1])


def in_turns(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each call, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(REPEATS + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if repeat:
                times[name].append(time.perf_counter() - began)
    return times


def report(what: str, times: Mapping[str, list[float]], steps: int) -> None:
    """Print each one's median, and its median ratio to PyTorch with the smallest and largest."""
    for name, seconds in times.items():
        ratios = [theirs / ours for theirs, ours in zip(times["torch"], seconds, strict=True)]
        spread = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"{what:28} {name:10} {statistics.median(seconds) / steps * 1e3:9.3f} ms  {spread}", flush=True)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    keep_freed_memory()
    yardstick = measure()
    print(f"yardstick: {yardstick.flop_rate / 1e9:.0f} GFLOP/s on one core; kernels: {', '.join(usable_variants())}")
    models: dict[str, FlatModel] = {}
    for name, batch_size, number in WORKS:
        model = models.setdefault(name, FlatModel(build_model(name)))
        chain: Chain = model.module.chain  # type: ignore[assignment]
        data = examples(chain, number)

        def update(kernels: Kernels | None, model=model, data=data, batch_size=batch_size) -> None:
            model.kernels = kernels
            client_update(model, data, 1, batch_size, 1e-3, numpy_stream(0, Purpose.BATCH_ORDER))

        by_variant = {variant: Kernels(chain, load(variant)) for variant in usable_variants()}
        calls = {key: lambda kernels=kernels: update(kernels) for key, kernels in {"torch": None, **by_variant}.items()}
        report(f"{name}, B = {batch_size}, a step", in_turns(calls), -(-number // batch_size))
    chain = models["simple-cnn"].module.chain  # type: ignore[assignment]
    test, module = examples(chain, NUM_EVALUATED), models["simple-cnn"].module

    class ByPyTorch(type(module)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = super().forward(x)
            return output

    plain = ByPyTorch()
    FlatModel(plain)
    evaluations = {"torch": lambda: evaluate(plain, test.inputs, test.labels)}
    evaluations["kernels"] = lambda: evaluate(module, test.inputs, test.labels)
    report(f"simple-cnn, {NUM_EVALUATED} images", in_turns(evaluations), 1)


if __name__ == "__main__":
    main()
