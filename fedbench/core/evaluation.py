"""How good a model is on labelled examples: its loss and its confusion matrix, from which every rate follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbench.core.ordered_map import OrderedMap

EVALUATION_BATCH_SIZE = 250  # fits the caches of current processors; fixed, since it is part of the loss's last bits


@dataclass(frozen=True)
class Evaluation:
    """A model's measure on N examples of C classes.

    Attributes
    ----------
    loss
        Mean cross-entropy in nats. Not finite if the model diverged.
    confusion
        (C, C) int64: ``confusion[i, j]`` examples of class i were taken for class j.
    """

    loss: float
    confusion: NDArray[np.int64]

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.confusion.sum())

    @property
    def num_correct(self) -> int:
        """How many examples' class was found."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of examples whose class was found, in [0, 1]."""
        return self.num_correct / self.num_examples

    @property
    def per_class_recall(self) -> NDArray[np.float64]:
        """(C,) the share of each class's examples that was found; NaN for a class without examples."""
        counts = self.confusion.sum(axis=1)
        with np.errstate(invalid="ignore"):
            recall: NDArray[np.float64] = np.diag(self.confusion) / counts
        return recall

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall over the classes that have examples, in [0, 1]; 1/C for a model without knowledge."""
        return float(np.nanmean(self.per_class_recall))

    @property
    def majority_rate(self) -> float:
        """The share of the largest class: the accuracy of always naming it."""
        return float(self.confusion.sum(axis=1).max() / self.num_examples)

    @property
    def predicted_classes(self) -> list[int]:
        """The classes that the model names at least once."""
        return [int(index) for index in np.flatnonzero(self.confusion.sum(axis=0))]


def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor, map_batches: OrderedMap = map) -> Evaluation:
    """Measure `model` (in evaluation mode; its mode is restored) on labelled examples.

    Parameters
    ----------
    model
        Maps (B, ...) inputs to (B, C) logits or log-probabilities.
    inputs, labels
        (N, ...) and (N,) int64, N ≥ 1, on the model's device.
    map_batches
        Goes through the batches; another `OrderedMap` than ``map`` may use several threads. The bits are the same.
    """
    if len(labels) == 0:
        raise ValueError("there are no examples to evaluate on")
    was_training = model.training
    model.eval()
    try:
        batches = zip(*(torch.split(each, EVALUATION_BATCH_SIZE) for each in (inputs, labels)), strict=True)
        losses, counts = zip(*map_batches(partial(_loss_and_confusion, model), batches), strict=True)
    finally:
        model.train(was_training)
    return Evaluation(sum(losses) / len(labels), sum(counts))


@torch.inference_mode()
def _loss_and_confusion(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[float, NDArray[np.int64]]:
    inputs, labels = batch
    output = model(in_fast_layout(inputs))  # (B, C)
    num_classes = output.shape[1]
    loss = F.cross_entropy(output, labels, reduction="sum").item()
    counts = torch.bincount(labels * num_classes + output.argmax(dim=1), minlength=num_classes**2)
    return loss, counts.view(num_classes, num_classes).cpu().numpy()


def in_fast_layout(batch: Tensor) -> Tensor:
    """Images (B, C, H, W) as ``channels_last``, the layout of `FlatModel`'s weights; anything else as it is."""
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch
