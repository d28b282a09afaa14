"""Yardsticks: the rates of this machine, which make measured times comparable with those of other machines."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from mmap import PAGESIZE, mmap
from typing import TYPE_CHECKING

from fedbench.util.environment import usable_cores

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 1024  # of the square matrices
COPIED_BYTES = 256 << 20  # of the tensor that is copied: much more than the caches of most processors
SECONDS = 0.4  # the time for which each rate is measured
MIN_REPEATS = 5  # and how often at least


@dataclass(frozen=True)
class Yardsticks:
    """The rates of two simple operations, on one thread and on all cores that this process may use.

    Attributes
    ----------
    flop_rate, flop_rate_all_cores
        FLOP/s of a float32 `torch.mm` of two 1024 x 1024 matrices, which is 2 · 1024³ FLOPs.
    bandwidth, bandwidth_all_cores
        Bytes/s of a copy of 256 MiB from one tensor to another. Bytes read and bytes written count, 512 MiB per copy;
        cache lines that are read before they are written do not.
    num_cores
        The number of threads on all cores.

    Notes
    -----
    They are no bounds: well-shaped convolutions exceed the rate of `torch.mm`, and data in a cache the bandwidth.
    """

    flop_rate: float
    flop_rate_all_cores: float
    bandwidth: float
    bandwidth_all_cores: float
    num_cores: int

    def multiple(self, seconds: float, flops: float = 0, num_bytes: float = 0) -> float | None:
        """The time over that of one thread's yardstick for the same work: `flops`, if any, else `num_bytes`."""
        if flops:
            return seconds * self.flop_rate / flops
        return seconds * self.bandwidth / num_bytes if num_bytes else None

    def mean(self, other: Yardsticks) -> Yardsticks:
        """The mean of two measurements on one machine."""
        others = other._rates()
        rates = {name: (rate + others[name]) / 2 for name, rate in self._rates().items()}
        return Yardsticks(**rates, num_cores=self.num_cores)

    def drift(self, later: Yardsticks) -> float:
        """The largest relative change of a rate from this measurement to a later one, as a fraction with its sign."""
        after = later._rates()
        return max((after[name] / rate - 1 for name, rate in self._rates().items()), key=abs)

    def _rates(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if name != "num_cores"}


def measure() -> Yardsticks:
    """Measure this machine, which takes two seconds and 512 MiB; each rate is that of the median time."""
    cores = usable_cores()
    return Yardsticks(
        flop_rate=_flop_rate(1),
        flop_rate_all_cores=_flop_rate(cores),
        bandwidth=_bandwidth(1),
        bandwidth_all_cores=_bandwidth(cores),
        num_cores=cores,
    )


def _flop_rate(threads: int) -> float:
    import torch

    stream = torch.Generator().manual_seed(0)
    first, second = (torch.randn(SIDE, SIDE, generator=stream) for _ in range(2))
    product = torch.empty(SIDE, SIDE)
    with _threads(threads):
        return 2 * SIDE**3 / _median_seconds(lambda: torch.mm(first, second, out=product))


def _bandwidth(threads: int) -> float:
    source, target = apart(COPIED_BYTES // 4)
    with _threads(threads):
        return 2 * COPIED_BYTES / _median_seconds(lambda: target.copy_(source))


def apart(length: int) -> tuple[Tensor, Tensor]:
    """Two float32 tensors in mapped memory, with starts that differ by half a page within their pages.

    A copy between equal offsets is slower by a quarter. Which offsets tensors get depends on the allocator's settings,
    and so on what was measured before.
    """
    import torch

    half_a_page = PAGESIZE // 8  # in numbers of 4 bytes
    both = torch.frombuffer(mmap(-1, 4 * (2 * length + half_a_page)), dtype=torch.float32).zero_()
    return both[:length], both[length + half_a_page :]


def _median_seconds(call: Callable[[], object]) -> float:
    call()  # starts the threads and maps the memory
    times: list[float] = []
    while len(times) < MIN_REPEATS or sum(times) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
