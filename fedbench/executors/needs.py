"""What one run needs of a node of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedbench.util.errors import ClusterError

GIB = 1 << 30
# What the options take; more is a typing error.
MOST_WORKERS = 1024
MOST_CPUS = 1024
MOST_GIB = 65_536


@dataclass(frozen=True)
class Needs:
    """What one run needs of a node: a device, processors, GPUs (or a part of one), and bytes of memory."""

    device: str = "cpu"
    cpus: int = 1
    gpus: float = 0
    memory: int = GIB

    @classmethod
    def of(cls, device: str, cpus: int | None, gpus: float | None, memory: float | None) -> Needs:
        """From the command line's options, `memory` in GiB. None is a default: one GPU if the device is ``cuda``.

        Raises `ClusterError` if the options do not go together.
        """
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        if device not in ("cpu", "cuda"):
            raise ClusterError(
                f"--device {device}: the nodes of a cluster have cpu and cuda: choose one of these or auto"
            )
        if gpus is None:
            gpus = 1 if device == "cuda" else 0
        if (device == "cuda") != (gpus > 0):
            raise ClusterError(f"--device {device} and --gpus-per-run {gpus:g} do not go together")
        if gpus > 1:
            raise ClusterError(f"--gpus-per-run {gpus:g}: a run uses at most one GPU")
        return cls(device, cpus or cls.cpus, gpus, cls.memory if memory is None else int(memory * GIB))

    def fitting(self, resources: Mapping[str, float]) -> int:
        """How many such runs fit on a node with these resources, by Ray's names."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return int(min(resources.get(name, 0) / need for name, need in wanted.items() if need))

    def __str__(self) -> str:
        gpus = f"{self.gpus:g} GPU, " if self.gpus else ""
        return f"{self.cpus} CPU, {gpus}{self.memory / GIB:g} GiB"
