"""Faults that people make in Federated Averaging: one line each here, and one patch each in ``patches/``.

A patch is a unified diff with paths relative to the root of the tree, for ``git apply`` or ``patch -p1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
CELLS = (  # of faults.yaml, by their labels
    "few-clients init=shared",
    "few-clients init=independent",
    "sampled-clients",
    "unequal-clients",
)
SHARED, INDEPENDENT, SAMPLED, UNEQUAL = CELLS
BUFFERS = (SAMPLED, UNEQUAL)  # those whose model has buffers and dropout


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    name
        Also the name of its patch.
    what
        What goes wrong.
    cells
        The cells of faults.yaml in which it changes a number; none for a fault of speed.
    """

    name: str
    what: str
    cells: tuple[str, ...] = CELLS

    @property
    def kind(self) -> Literal["accuracy", "speed"]:
        """What it harms."""
        return "accuracy" if self.cells else "speed"

    @property
    def patch(self) -> Path:
        """Its patch."""
        return HERE / "patches" / f"{self.name}.patch"


def _without(*cells: str) -> tuple[str, ...]:
    return tuple(cell for cell in CELLS if cell not in cells)


_LIST = (
    Fault("client-left-out", "where all take part, clients are counted from 1: client 0 never does", _without(SAMPLED)),
    Fault("weights-not-normalised", "the models are summed with weights n_k, which do not sum to one"),
    Fault("weights-over-all-clients", "n_k is divided by the examples of all clients, not of the selected", (SAMPLED,)),
    Fault("sizes-ignored", "n_k is ignored: every client has the same weight", (UNEQUAL,)),
    Fault("batches-not-shuffled", "every epoch takes the examples in the order of the partition"),
    Fault("batches-same-every-round", "the order of batches is drawn from the same stream in every round"),
    Fault("last-batch-dropped", "the last batch of an epoch is left out if it is smaller than B"),
    Fault("labels-not-shuffled", "the images are shuffled and the labels are not"),
    Fault("epochs-off-by-one", "a client trains for E - 1 epochs"),
    Fault("rounds-off-by-one", "the last round is left out"),
    Fault("learning-rate-off", "the learning rate is 1.25 times what it should be"),
    Fault("momentum-left-in", "the clients' SGD has momentum 0.9"),
    Fault("gradients-not-zeroed", "a client's gradients add up over its steps"),
    Fault("loss-summed", "the loss of a batch is the sum over its examples, not the mean"),
    Fault("normalisation-missing", "pixels are scaled to [0, 1], but not to mean 0 and standard deviation 1"),
    Fault(
        "init-not-shared", "each client draws its own initial model, where one should be shared", _without(INDEPENDENT)
    ),
    Fault("init-always-shared", "all clients start from one model, where each should draw its own", (INDEPENDENT,)),
    Fault("seed-ignored-by-init", "the initial model is that of seed 0, whatever the seed"),
    Fault("evaluation-in-training-mode", "the model is evaluated with dropout and the batch's own mean", BUFFERS),
    Fault("evaluation-on-training-data", "the model is evaluated on the training data"),
    Fault("buffers-not-averaged", "the parameters are averaged, the buffers stay the initial model's", BUFFERS),
    Fault("global-model-not-copied", "clients train the server's model in place, one goes on from the other"),
    Fault("stale-global-model", "clients start from the average of the round before last"),
    Fault("same-clients-every-round", "the clients of every round are those of round 1", (SAMPLED,)),
    Fault("copy-in-averaging", "the sum of the models is copied for each client that is added", ()),
    Fault("zero-grad-twice", "the gradients are set to zero twice a step", ()),
    Fault("sleep-in-step", "each step of SGD is followed by a sleep of a tenth of its time", ()),
    Fault("evaluation-twice", "every model is evaluated twice", ()),
)
FAULTS = {fault.name: fault for fault in _LIST}
