"""What computes the numbers: versions, the processor, and everything else that the bits of a run depend on."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from fedbench import __version__
from fedbench.util.commits import commit_of

SOURCE_TAGS = {"mlflow.source.name": "fedbench", "mlflow.source.type": "LOCAL"}
CPUINFO = Path("/proc/cpuinfo")
KERNELS = "kernels"  # they alone computed a run: its bits are the same on every processor and with every PyTorch
COMPUTED_BY = tuple(
    f"fedbench.{name}" for name in ("version", "python", "torch", "processor", "machine", "computed_with")
)  # tags
VECTOR = re.compile(r"(s?sse\w*|avx\w*|fma\w*|f16c|amx\w*|asimd\w*|sve\w*|bf16|i8mm|fp\w+)")  # instruction sets
SETTINGS = (  # variables that make the libraries below PyTorch choose other kernels
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "TORCH_MKLDNN_MATMUL_MIN_DIM"),
)


@cache
def environment_tags() -> dict[str, str]:
    """The tags of a run that say what computed it."""
    return version_tags() | SOURCE_TAGS | commit_of(Path.cwd()).mlflow_tags


@cache
def version_tags(device: str = "cpu") -> dict[str, str]:
    """The tags of the versions and the machine of this process, which computes on `device`."""
    import torch

    return {
        "fedbench.version": __version__,
        "fedbench.python": platform.python_version(),
        "fedbench.torch": torch.__version__,
        "fedbench.processor": torch.backends.cpu.get_cpu_capability(),
        "fedbench.machine": machine(device),
    }


@cache
def machine(device: str = "cpu") -> str:
    """What PyTorch's kernels are chosen by here, for a person and to compare: ``AMD EPYC 9R14 (3fa2b1c0)``."""
    processor, instructions = _processor()
    details = "\n".join((processor, instructions, _settings()))
    name = _processor_name()
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    return f"{name} ({hashlib.sha256(details.encode()).hexdigest()[:8]})"


def elsewhere(tags: Mapping[str, str], device: str) -> str | None:
    """How what computed a run, by its tags, differs from this process, such as ``PyTorch 2.13.0, here 2.14.1``.

    None if it does not, or the tags do not say, or the kernels computed it. It imports PyTorch only for a GPU.
    """
    if tags.get("fedbench.computed_with") == KERNELS:
        return None
    changes = []
    if (there := public_version(tags.get("fedbench.torch", ""))) not in ("", here := _torch_version()):
        changes.append(f"PyTorch {there}, here {here}")
    if (there := tags.get("fedbench.machine", "")) not in ("", here := machine(device)):
        changes.append(f"{there}, here {here}")
    return "; ".join(changes) or None


def torch_and_machine() -> str:
    """PyTorch's version and the machine, such as ``PyTorch 2.14.1+cpu on AMD EPYC 9R14 (3fa2b1c0)``.

    A checkpoint made with others cannot be resumed: the bits would be neither the one's nor the other's.
    """
    tags = version_tags()
    return f"PyTorch {tags['fedbench.torch']} on {tags['fedbench.machine']}"


def environment(device: str, threads: int) -> dict[str, str]:
    """What the bits of a run depend on apart from its spec, its data and the code: equal ones give equal bits.

    The device is ``cpu`` or ``cuda``; `threads` are PyTorch's in the computation of a run.
    """
    import numpy as np
    import torch

    processor, instructions = _processor()
    build = [line for line in torch.__config__.show().splitlines() if "CPU capability" not in line]  # see "kernels"
    return {
        "device": f"cuda {torch.cuda.get_device_name()}" if device == "cuda" else device,
        "instructions": instructions,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "layout": "oneDNN" if torch.backends.mkldnn.is_available() else "plain",  # type: ignore[no-untyped-call]
        "numpy": np.__version__,
        "processor": processor,
        "settings": _settings(),
        "system": " ".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
        "threads": str(threads),
        "torch": torch.__version__,
        "torch build": hashlib.sha256("\n".join(build).encode()).hexdigest()[:16],
    }


def environment_changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two environments: ``torch 2.14.1, was 2.13.0``."""

    def change(name: str) -> str:
        values = [each.get(name) or "none" for each in (now, before)]
        if max(map(len, values)) > 60:
            return f"other {name}"
        return f"{name} {values[0]}, was {values[1]}"

    return tuple(change(name) for name in sorted({*before, *now}) if before.get(name) != now.get(name))


def machine_name() -> str:
    """The processor's name and how many cores this process may use."""
    return f"{_processor_name()}, {usable_cores()} cores"


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def public_version(version: str) -> str:
    """A version without its local part, which no package index knows: ``2.14.1+cpu`` is ``2.14.1``."""
    return version.partition("+")[0]


def processor_flags() -> frozenset[str]:
    """The processor's instruction sets and other features, as Linux calls them; none elsewhere."""
    first = _cpuinfo()
    return frozenset((first.get("flags") or first.get("Features") or "").split())


@cache  # a store may have a hundred thousand runs to compare with
def _torch_version() -> str:
    return public_version(version("torch"))


def _processor_name() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _settings() -> str:
    return " ".join(f"{name}={os.environ[name]}" for name in SETTINGS if os.environ.get(name))


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _processor() -> tuple[str, str]:
    """The processor and its vector instruction sets, as far as the system says."""
    first = _cpuinfo()
    known = [first[name] for name in ("vendor_id", "model name", "CPU implementer", "CPU part") if name in first]
    known += [f"{name} {first[name]}" for name in ("cpu family", "model", "stepping", "cache size") if name in first]
    name = ", ".join(known) or platform.processor() or platform.machine()
    return name, " ".join(sorted(filter(VECTOR.fullmatch, processor_flags())))
