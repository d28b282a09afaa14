"""Independent random streams, each derived from (seed, purpose, indices) and never from global state.

A stream does not depend on what was drawn from any other: client 3 sees the same batches whether or not client 2
trains longer, whatever the order in which clients run, and after an interruption.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a stream is for. The values are part of the results: never renumber them."""

    INIT = 1  # indices: client
    PARTITION = 2  # indices: none
    CLIENT_SAMPLING = 3  # indices: round
    BATCH_ORDER = 4  # indices: round, client
    MODEL_NOISE = 5  # indices: round, client; for layers such as dropout
    AUGMENTATION = 6  # indices: round, client


def _sequence(seed: int, purpose: Purpose, indices: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *indices))


def derive_seed(seed: int, purpose: Purpose, *indices: int) -> int:
    """A 63-bit seed for the stream of `purpose` and `indices`."""
    return int(_sequence(seed, purpose, indices).generate_state(1, np.uint64)[0] >> 1)


def torch_stream(seed: int, purpose: Purpose, *indices: int) -> torch.Generator:
    """A PyTorch generator (on the CPU) for the stream of `purpose` and `indices`."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))


def numpy_stream(seed: int, purpose: Purpose, *indices: int) -> np.random.Generator:
    """A NumPy generator for the stream of `purpose` and `indices`."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose, indices)))


def permutation(stream: np.random.Generator, n: int) -> NDArray[np.int64]:
    """(n,) a permutation of indices: it sorts the stream's raw integers, which no version of NumPy changes."""
    raw: NDArray[np.uint64] = stream.bit_generator.random_raw(n)
    return raw.argsort(kind="stable")
