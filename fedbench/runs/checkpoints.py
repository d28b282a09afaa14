"""Checkpoints: a run's state after a round, in a file that is atomic, checksummed and read without pickled code.

The first line of a file is the SHA-256 of the rest, which is a dictionary as `torch.save` writes it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from fedbench.core import ServerState
from fedbench.core.flat import FlatModel, ModelState
from fedbench.measures import Line
from fedbench.tracking.records import REPORTED
from fedbench.util.errors import CheckpointError
from fedbench.util.files import regular, replacing

if TYPE_CHECKING:
    from fedbench.suites.cell import CellSpec


@dataclass(frozen=True)
class Checkpoint:
    """A run after one of its rounds: enough to resume it, or to finish it.

    Attributes
    ----------
    server
        The server's state, on the CPU.
    history
        The metrics of each round so far, by name.
    confusion
        (C, C) int64, the confusion matrix of the averaged model on the test set.
    interpolation
        The line through two clients' models as they were averaged; empty before the last round.
    lines, correlations
        Where models were aligned, further lines and the correlations of their units; see `fedbench.runs.alignment`.
    """

    server: ServerState
    history: tuple[Mapping[str, float], ...]
    confusion: Tensor
    interpolation: Line = ()
    lines: Mapping[str, Line] = field(default_factory=dict)
    correlations: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def round(self) -> int:
        """The number of finished rounds."""
        return len(self.history)


def require_fit(checkpoint: Checkpoint, path: Path, spec: CellSpec) -> None:
    """Refuse a checkpoint whose state is not that of the cell's model, with a `CheckpointError`."""
    with torch.random.fork_rng(devices=[]):
        wanted = FlatModel(spec.build_model()).state()
    rows, *columns = checkpoint.confusion.shape or (0,)
    has_numbers = all(each.keys() >= set(REPORTED) for each in checkpoint.history)
    is_square = columns == [rows] and checkpoint.confusion.dtype is torch.int64
    is_within = checkpoint.round <= spec.rounds
    if not (has_numbers and is_square and is_within) or _forms(checkpoint.server.model) != _forms(wanted):
        raise CheckpointError(f"checkpoint {path} is not of this model")


def _forms(state: ModelState) -> list[tuple[torch.Size, torch.dtype]]:
    return [(each.shape, each.dtype) for each in (state.vector, *state.counters)]


class _Content(BaseModel):
    """Validates the types of what a file holds."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    checkpoint: Checkpoint


def save_checkpoint(path: Path, fingerprint: str, checkpoint: Checkpoint, made_by: str = "") -> None:
    """Write the checkpoint of the run `fingerprint` atomically, in place of an earlier one.

    `made_by` is what else its bits depend on.
    """
    server = vars(checkpoint.server) | {"model": vars(checkpoint.server.model)}  # only plain types are read back
    content = vars(checkpoint) | {"server": server, "fingerprint": fingerprint, "environment": made_by}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path, sync=False) as file:  # the checksum detects what a power cut damaged
        file.write(hashlib.sha256(buffer.getbuffer()).hexdigest().encode() + b"\n")
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path, fingerprint: str, made_by: str = "") -> Checkpoint | None:
    """The checkpoint of the run `fingerprint`, made by what is the same here; None if there is none.

    Raises `CheckpointError` if the file cannot be read, is damaged, belongs to another run, or was made by something
    else.
    """
    try:
        digest, _, body = regular(path).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error.strerror})") from error
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(f"checkpoint {path} is damaged")
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(body), weights_only=True)
        found, there = content.pop("fingerprint"), content.pop("environment")
        checkpoint = _Content(checkpoint=content).checkpoint  # a mapping is validated
        shapes = checkpoint.server.model.vector.shape, checkpoint.confusion.shape
        if not checkpoint.server.round == checkpoint.round > 0 or tuple(map(len, shapes)) != (1, 2):
            raise ValueError("as many rounds as entries in the history, (D,) and (C, C)")
    except Exception as error:  # whatever a file that another program wrote may hold
        raise CheckpointError(f"checkpoint {path} is not one of this fedbench") from error
    if found != fingerprint:
        raise CheckpointError(f"checkpoint {path} belongs to another run")
    if there != made_by:
        raise CheckpointError(f"checkpoint {path} was made with {there}, this is {made_by}")
    return checkpoint
