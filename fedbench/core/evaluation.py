"""The loss and the confusion matrix of a model on labelled examples, from which every rate follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbench.core.chains import can_compute, flat_parameters, kernels_of
from fedbench.core.flat import at_least_float32
from fedbench.core.threads import thread_map

# Fixed, since they are part of the loss's last bits.
EVALUATION_BATCH_SIZE = 250  # fits the caches of current processors
KERNELS_BATCH_SIZE = 512  # which the kernels divide themselves


@dataclass(frozen=True)
class Evaluation:
    """A model evaluated on N examples of C classes.

    Attributes
    ----------
    loss
        Mean cross-entropy in nats. Not finite if the model diverged.
    confusion
        (C, C) int64: ``confusion[i, j]`` examples of class i were predicted as class j.
    """

    loss: float
    confusion: NDArray[np.int64]

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.confusion.sum())

    @property
    def num_correct(self) -> int:
        """The number of examples whose class was predicted."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The fraction of examples whose class was predicted, in [0, 1]."""
        return self.num_correct / self.num_examples

    @property
    def per_class_recall(self) -> NDArray[np.float64]:
        """(C,) the recall of each class, in [0, 1]; NaN for a class without examples."""
        counts = self.confusion.sum(axis=1)
        with np.errstate(invalid="ignore"):
            recall: NDArray[np.float64] = np.diag(self.confusion) / counts
        return recall

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall over the classes that have examples, in [0, 1]; 1/C at chance level."""
        recalls = self.per_class_recall[self.confusion.any(axis=1)]
        return math.fsum(recalls) / len(recalls)

    @property
    def majority_rate(self) -> float:
        """The accuracy of always predicting the largest class."""
        return float(self.confusion.sum(axis=1).max() / self.num_examples)

    @property
    def predicted_classes(self) -> list[int]:
        """The classes that the model predicts at least once."""
        return [int(index) for index in np.flatnonzero(self.confusion.sum(axis=0))]


def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor, num_threads: int = 1) -> Evaluation:
    """Measure `model` (in evaluation mode; its mode is restored) on labelled examples.

    Parameters
    ----------
    model
        Maps (B, ...) inputs to (B, C) logits or log-probabilities.
    inputs, labels
        (N, ...) and (N,) int64, N ≥ 1, on the model's device.
    num_threads
        How many batches are evaluated at once. The bits do not depend on it.
    """
    if len(labels) == 0:
        raise ValueError("there are no examples to evaluate on")
    kernels = kernels_of(model)
    if kernels is not None and can_compute(kernels, inputs, labels):
        measure = partial(kernels.evaluate, flat_parameters(model))
        return _in_batches(measure, inputs.contiguous(), labels.contiguous(), KERNELS_BATCH_SIZE, num_threads)
    was_training = model.training
    model.eval()
    try:
        return _in_batches(partial(_loss_and_confusion, model), inputs, labels, EVALUATION_BATCH_SIZE, num_threads)
    finally:
        model.train(was_training)


def _in_batches(
    measure: Callable[[Tensor, Tensor], tuple[float, NDArray[np.int64]]],
    inputs: Tensor,
    labels: Tensor,
    size: int,
    num_threads: int,
) -> Evaluation:
    batches = zip(torch.split(inputs, size), torch.split(labels, size), strict=True)
    losses, counts = zip(*thread_map(lambda batch: measure(*batch), batches, num_threads), strict=True)
    return Evaluation(math.fsum(losses) / len(labels), sum(counts))


@torch.inference_mode()
def _loss_and_confusion(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[float, NDArray[np.int64]]:
    output = at_least_float32(model(in_fast_layout(inputs)))  # (B, C)
    num_classes = output.shape[1]
    loss = F.cross_entropy(output, labels, reduction="sum").item()
    counts = torch.bincount(labels * num_classes + output.argmax(dim=1), minlength=num_classes**2)
    return loss, counts.view(num_classes, num_classes).cpu().numpy()


def in_fast_layout(batch: Tensor) -> Tensor:
    """Images (B, C, H, W) as ``channels_last``, the layout of `FlatModel`'s weights; anything else as it is."""
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch
