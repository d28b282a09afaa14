"""The data and the device that runs are computed on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.datasets import is_present, load_dataset
from fedbench.runs.fit import require_fitting_models
from fedbench.util.errors import SuiteError

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.suites.schema import CellSpec


CHANGED = "it has changed since, or what makes it is random; give it a fixed seed and run the command again"


@dataclass(frozen=True)
class DataSource:
    """Datasets from one folder, each loaded once a process; and the device that they are used on."""

    folder: Path | None = None
    device: str = "cpu"
    _loaded: dict[Hashable, Dataset] = field(default_factory=dict, compare=False, repr=False)

    def dataset(self, spec: CellSpec) -> Dataset:
        """The dataset that `spec` names, in its split and with its scaling of pixels."""
        key = _key(spec)
        if key not in self._loaded:
            self._loaded[key] = load_dataset(spec.part("dataset"), spec.split, self.folder)
        return self._loaded[key].scaled(spec.pixels)

    def digest(self, spec: CellSpec) -> str:
        """The digest of the data that `spec` reads: as published, if it need not have been loaded."""
        known = spec.part("dataset").INFO.digests.get(spec.split)
        if known and not spec.part("partition").columns and _key(spec) not in self._loaded:
            return str(known)
        return digest_of(self.dataset(spec), spec)

    def require(self, specs: Iterable[CellSpec]) -> None:
        """Look for the files of all datasets that `specs` need, and try their models that are not built in.

        Raises
        ------
        DataError
            If a file is missing: one line that says what to do.
        SuiteError
            See `fedbench.runs.fit.require_fitting_models`.
        """
        possible = [spec for spec in dict.fromkeys(specs) if spec.shortfall() is None]
        for spec in possible:
            if not is_present(spec.part("dataset"), self.folder):
                self.dataset(spec)
        require_fitting_models(possible)

    def load(self, specs: Iterable[CellSpec]) -> None:
        """Load all that `specs` need, so that damaged data is found before anything is recorded."""
        for spec in specs:
            self.dataset(spec)


def _key(spec: CellSpec) -> Hashable:
    return spec.dataset, spec.split, *spec.options_of("dataset").items()


def digest_of(dataset: Dataset, spec: CellSpec) -> str:
    """The digest of what `spec` reads of a dataset: its own, or that with the columns that the partition reads."""
    content: list[object] = [dataset.digest]
    for column in spec.part("partition").columns:
        values = dataset.train_columns.get(column)
        content += [column, None if values is None else values.tolist()]
    return dataset.digest if len(content) == 1 else hashlib.sha256(json.dumps(content).encode()).hexdigest()


def choose_device(name: str) -> str:
    """The device that `name` means here: ``auto`` takes a GPU where there is one.

    Raises
    ------
    SuiteError
        If the name is unknown or this machine has no such device.
    """
    if name == "cpu":
        return name
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name):
        here = ", ".join(device for device, there in available.items() if there)
        raise SuiteError(f"--device {name}: this machine has {here}; choose one of them or auto")
    return name
