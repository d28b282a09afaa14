"""Kernels of our own for the built-in models: same seed, same bits on every processor. See kernels.c.

They compute what PyTorch specifies, within rounding. A model takes part by describing itself as a `Chain`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from fedbench.kernels.loading import choice

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from fedbench.hooks import AffineTerm

SIDE = 5  # of a convolution's kernel


@dataclass(frozen=True)
class Chain:
    """A model that the kernels compute: 5x5 convolutions, each with 2x2 max-pooling and ReLU, then dense layers.

    There is a ReLU after each dense layer but the last; the loss is the cross-entropy of its logits. All have biases.

    Attributes
    ----------
    image_shape
        Channels, height, width of the input.
    convolutions
        For each the channels of its output and the zero padding of its input on each side.
    units
        The output features of the dense layers.
    """

    image_shape: tuple[int, int, int]
    units: tuple[int, ...]
    convolutions: tuple[tuple[int, int], ...] = ()

    @cached_property
    def shape(self) -> NDArray[np.int64]:
        """As kernels.c reads it."""
        convolutions = [number for convolution in self.convolutions for number in convolution]
        numbers = [*self.image_shape, len(self.convolutions), *convolutions, len(self.units), *self.units]
        return np.array(numbers, dtype=np.int64)

    @cached_property
    def num_parameters(self) -> int:
        """P, the length of a vector of its parameters."""
        channels, height, width = self.image_shape
        total = 0
        for out, padding in self.convolutions:
            total += (channels * SIDE**2 + 1) * out
            channels, height, width = out, *((side + 2 * padding - SIDE + 1) // 2 for side in (height, width))
        features = channels * height * width
        for out in self.units:
            total += (features + 1) * out
            features = out
        return total


class Stop:
    """Tells updates in other threads to stop, also while they compute."""

    def __init__(self) -> None:
        self._flag = ctypes.c_int32(0)

    def set(self) -> None:
        """Stop them."""
        self._flag.value = 1

    def is_set(self) -> bool:
        """Whether they are to stop."""
        return bool(self._flag.value)

    @property
    def address(self) -> int:
        """Where the kernels look."""
        return ctypes.addressof(self._flag)


@dataclass(frozen=True)
class Kernels:
    """What the kernels do for one model. All tensors are on the CPU and contiguous; floating ones are float32.

    Vectors of parameters are (P,), as `fedbench.core.FlatModel` lays them out. Images are (N, C, H, W), labels (N,)
    int64 within the classes. Methods may be called from several threads.
    """

    chain: Chain
    library: ctypes.CDLL
    _spare: dict[int, SimpleQueue[NDArray[np.uint8]]] = field(default_factory=dict, compare=False, repr=False)

    def update(
        self,
        parameters: Tensor,
        images: Tensor,
        labels: Tensor,
        order: NDArray[np.int64],
        batch_size: int,
        learning_rate: float,
        term: AffineTerm | None,
        stop: Stop,
    ) -> float:
        """Take the SGD steps of E epochs in place; returns the sum of the examples' losses.

        Parameters
        ----------
        order
            (E, N) the examples' indices, epoch by epoch.
        term
            Is added to each gradient.
        stop
            Once it is set, the remaining steps are left out.
        """
        epochs, n = order.shape
        factor, start, added = (term.factor, term.start, term.added) if term else (0.0, None, None)
        with self._memory(batch_size) as memory:
            total: float = self.library.update(
                *(self._shape, memory, parameters.data_ptr(), images.data_ptr(), labels.data_ptr(), order.ctypes.data),
                *(n, epochs, batch_size, learning_rate, factor, _address(start), _address(added), stop.address),
            )
        return total

    def gradient(self, parameters: Tensor, images: Tensor, labels: Tensor, out: Tensor) -> float:
        """The sum of the losses of a batch; `out` (P,) is set to the gradient of their mean."""
        order = np.arange(len(labels))
        with self._memory(len(labels)) as memory:
            total: float = self.library.gradient(
                *(self._shape, memory, parameters.data_ptr(), images.data_ptr(), labels.data_ptr(), order.ctypes.data),
                *(len(labels), out.data_ptr()),
            )
        return total

    def evaluate(self, parameters: Tensor, images: Tensor, labels: Tensor) -> tuple[float, NDArray[np.int64]]:
        """The sum of the examples' losses, and the confusion matrix (C, C)."""
        counts = np.zeros((self.chain.units[-1],) * 2, dtype=np.int64)
        with self._memory(len(labels)) as memory:
            total: float = self.library.evaluate(
                *(self._shape, memory, parameters.data_ptr(), images.data_ptr(), labels.data_ptr(), len(labels)),
                counts.ctypes.data,
            )
        return total, counts

    @property
    def _shape(self) -> int:
        return self.chain.shape.ctypes.data

    @contextmanager
    def _memory(self, batch_size: int) -> Iterator[int]:
        """The address of memory for batches of this size, which is kept for the next call."""
        size = self.library.memory_bytes(self._shape, batch_size)
        spare = self._spare.setdefault(size, SimpleQueue())
        try:
            block = spare.get_nowait()
        except Empty:
            block = np.empty(size + 64, dtype=np.uint8)
        try:
            yield -(-block.ctypes.data // 64) * 64
        finally:
            spare.put(block)


def kernels_for(chain: Chain) -> Kernels | None:
    """The kernels for a model; None where PyTorch computes."""
    library = choice().library
    return None if library is None else _kernels(chain, library)


@cache
def _kernels(chain: Chain, library: ctypes.CDLL) -> Kernels:
    """One for each model, whose memory is used again."""
    return Kernels(chain, library)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def add_scaled(total: Tensor, values: Tensor, share: float) -> bool:
    """Add share · values to a sum in float64, in place; False, and nothing is done, where PyTorch has to."""
    library = choice().library
    if library is None or not _is_plain(values):
        return False
    library.add_scaled(total.data_ptr(), values.data_ptr(), share, values.numel())
    return True


def squared_distance(first: Tensor, second: Tensor) -> float | None:
    """‖first − second‖², where equal infinities differ by nothing; None where PyTorch has to compute it."""
    library = choice().library
    if library is None or first.shape != second.shape or not (_is_plain(first) and _is_plain(second)):
        return None
    squared: float = library.squared_distance(first.data_ptr(), second.data_ptr(), first.numel())
    return squared


def _is_plain(tensor: Tensor) -> bool:
    import torch

    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()
