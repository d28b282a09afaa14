"""What the last bits of a run depend on beside its spec, its data and the code."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from fedbench.executors import THREADS

CPUINFO = Path("/proc/cpuinfo")
VECTOR = re.compile(r"(s?sse\w*|avx\w*|fma\w*|f16c|amx\w*|asimd\w*|sve\w*|bf16|i8mm|fp\w+)")  # instruction sets
SETTINGS = (  # variables by which the libraries below PyTorch choose other code
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "TORCH_MKLDNN_MATMUL_MIN_DIM"),
)


def environment(device: str) -> dict[str, str]:
    """The environment of runs on `device`, in words by what they are of. Equal ones give equal bits."""
    import numpy as np
    import torch

    processor, instructions = _processor()
    build = [line for line in torch.__config__.show().splitlines() if "CPU capability" not in line]  # see "kernels"
    settings = [f"{name}={os.environ[name]}" for name in SETTINGS if os.environ.get(name)]
    return {
        "device": f"cuda {torch.cuda.get_device_name()}" if device == "cuda" else device,
        "instructions": instructions,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "layout": "oneDNN" if torch.backends.mkldnn.is_available() else "plain",  # type: ignore[no-untyped-call]
        "numpy": np.__version__,
        "processor": processor,
        "settings": " ".join(settings),
        "system": " ".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
        "threads": str(THREADS),
        "torch": torch.__version__,
        "torch build": hashlib.sha256("\n".join(build).encode()).hexdigest()[:16],
    }


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What two environments have different, in words: ``torch 2.14.1, was 2.13.0``."""

    def words(name: str) -> str:
        values = [each.get(name) or "none" for each in (now, before)]
        if max(map(len, values)) > 60:
            return f"other {name}"
        return f"{name} {values[0]}, was {values[1]}"

    return tuple(words(name) for name in sorted({*before, *now}) if before.get(name) != now.get(name))


def processor_entries() -> dict[str, str]:
    """What the system tells of the first processor, by its own names; nothing where there is no such file."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _processor() -> tuple[str, str]:
    """The processor, and its instruction sets, as far as the system tells."""
    first = processor_entries()
    known = [first[name] for name in ("vendor_id", "model name", "CPU implementer", "CPU part") if name in first]
    known += [f"{name} {first[name]}" for name in ("cpu family", "model", "stepping", "cache size") if name in first]
    flags = (first.get("flags") or first.get("Features") or "").split()
    name = ", ".join(known) or platform.processor() or platform.machine()
    return name, " ".join(sorted(filter(VECTOR.fullmatch, flags)))
