"""Checks everything that a run needs."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from fedbench import __version__
from fedbench.util.environment import usable_cores
from fedbench.util.errors import FedbenchError, one_line

PACKAGES = ("torch", "torchvision", "mlflow", "numpy", "pandas", "pillow", "pydantic", "mlxtend")


@dataclass(frozen=True)
class Finding:
    """The result of one check: `note` is worth knowing, `failed` keeps runs from working and says what to do."""

    check: str
    status: Literal["ok", "note", "failed"]
    text: str


def examine(data_dir: Path | None = None, tracking_uri: str | None = None) -> list[Finding]:
    """Make every check; none of them raises."""
    checks: dict[str, Callable[[], str | Finding]] = {
        "fedbench": lambda: f"{__version__} on Python {platform.python_version()}",
        "packages": _packages,
        "processor": _processor,
        "kernels": _kernels,
        "training": _training,
        "suites": _suites,
        "tracking store": lambda: _store(tracking_uri),
    }
    return [_found(name, check) for name, check in checks.items()] + _datasets(data_dir)


def _found(name: str, check: Callable[[], str | Finding]) -> Finding:
    try:
        found = check()
    except Exception as error:  # whatever breaks is what the doctor is to find
        return Finding(name, "failed", one_line(error))
    return found if isinstance(found, Finding) else Finding(name, "ok", found)


def _packages() -> str:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise FedbenchError(f"missing: {', '.join(missing)}: pip install --force-reinstall fedbench-mlflow")
    return ", ".join(found)


def _processor() -> str:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{usable_cores()} cores, {torch.backends.cpu.get_cpu_capability()}, {gpu}, {sys.platform}"


def _kernels() -> Finding:
    from fedbench.kernels.loading import choice

    found = choice()
    return Finding("kernels", "note" if found.library is None else "ok", f"{found.name}: {found.reason}")


def _training() -> str:
    import torch

    from fedbench.core import ClientData, fedavg
    from fedbench.models import build_model

    stream = torch.Generator().manual_seed(0)
    data = ClientData(torch.randn(50, 1, 28, 28, generator=stream), torch.arange(50) % 10)
    options = {"rounds": 2, "local_epochs": 5, "learning_rate": 0.05}
    losses = [each.train_loss for each in fedavg(lambda: build_model("simple-cnn"), [data], **options)]  # type: ignore[arg-type]
    if not losses[1] < losses[0]:
        raise FedbenchError(f"the loss does not fall ({losses}): reinstall torch")
    return f"the loss falls ({losses[0]:.3f}, {losses[1]:.3f})"


def _suites() -> str:
    from fedbench.suites.listing import load_suites

    suites, wrong = load_suites()
    if wrong:
        raise wrong[0]
    return ", ".join(suite.name for suite in suites)


def _store(tracking_uri: str | None) -> str:
    from fedbench.tracking.mlflow.store import check_store

    return check_store(tracking_uri)


def _datasets(data_dir: Path | None) -> list[Finding]:
    from fedbench.datasets import dataset_statuses

    return [
        Finding(f"dataset {each.name}", "ok", "present")
        if each.present
        else Finding(f"dataset {each.name}", "note", f"not present; to download it: {each.command}")
        for each in dataset_statuses(data_dir)
    ]
