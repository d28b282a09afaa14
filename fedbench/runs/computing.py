"""What computes a run: the kernels, PyTorch, or both. Its identity and its bits depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbench.kernels.loading import choice
from fedbench.models import MODELS
from fedbench.util.environment import KERNELS, torch_and_machine

if TYPE_CHECKING:
    from fedbench.suites.cell import CellSpec

GRADIENTS = "kernels and PyTorch"  # PyTorch changes the inputs, or takes the steps, or combines the models
PYTORCH = "PyTorch"


def computed_with(spec: CellSpec, device: str) -> str:
    """What computes a cell's runs in this process: `KERNELS`, `GRADIENTS` or `PYTORCH`."""
    if device != "cpu" or spec.component("model").digest or spec.model not in MODELS or choice().library is None:
        return PYTORCH
    is_whole = (
        not any(part.digest for part in spec.parts)
        and getattr(spec.part("optimiser"), "is_plain", False)
        and getattr(spec.part("aggregation"), "is_portable", False)
        and (spec.clip_norm, spec.augmentation) == (None, "none")
    )
    return KERNELS if is_whole else GRADIENTS


def device_and_kernels(spec: CellSpec, device: str) -> str:
    """What an identity says of what computes a cell's runs: ``cpu, kernels``, or the device alone for PyTorch."""
    computed = computed_with(spec, device)
    return device if computed == PYTORCH else f"{device}, {computed}"


def bits_depend_on(computed: str) -> str:
    """What else the bits of such a run depend on: another one's checkpoint cannot be resumed."""
    return KERNELS if computed == KERNELS else torch_and_machine()
