"""A dataset that a function returns, as a mapping of the arrays of `fedbench.datasets.arrays`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fedbench.datasets import Dataset, DatasetInfo, TrainingData
from fedbench.datasets.arrays import REQUIRED, SPLIT, dataset_of, info_of, require_keys, require_shapes
from fedbench.util.errors import DataError, FedbenchError
from fedbench.util.imports import last_line


@dataclass(frozen=True)
class FunctionDataset:
    """The dataset of a function, which is called once and only when its sizes or its data are needed."""

    function: Callable[..., object]
    options: Mapping[str, Any]
    name: str

    SPLIT_NAMES: ClassVar[tuple[str, ...]] = (SPLIT,)

    @property
    def INFO(self) -> DatasetInfo:  # noqa: N802 - as every dataset has it
        """From what the function returns."""
        return self._made[0]

    def load(self, data_dir: Path, split: str) -> Dataset:  # noqa: ARG002 - the function knows where its data is
        """What the function returns, checked."""
        return self._made[1]

    def load_training(self, data_dir: Path, split: str) -> TrainingData:  # noqa: ARG002 - as for load
        """The training part of it."""
        return self._made[2]

    def verify(self, data_dir: Path) -> None:
        """Call the function and check every value; raises `DataError` for the first that is wrong."""
        self.load(data_dir, "")

    @cached_property
    def _made(self) -> tuple[DatasetInfo, Dataset, TrainingData]:
        arrays = self._arrays()
        require_keys(self.name, list(arrays))
        require_shapes(self.name, arrays)
        dataset, training = dataset_of(self.name, arrays)
        return info_of(self.name, arrays, arrays), dataset, training

    def _arrays(self) -> dict[str, Any]:
        import numpy as np

        try:
            returned = self.function(**self.options)
        except FedbenchError:
            raise
        except (Exception, SystemExit) as error:
            code = getattr(self.function, "__code__", None)
            where = last_line(error, Path(code.co_filename) if code else None)
            raise DataError(f"{self.name}: {where}") from error
        if not isinstance(returned, Mapping):
            kind = type(returned).__name__
            raise DataError(f"{self.name} returns {kind}; it must return a mapping with {', '.join(REQUIRED)}")
        arrays = {}
        for key, value in returned.items():
            if value is None:
                continue
            try:
                arrays[str(key)] = value if key == "columns" else np.asarray(value)
            except Exception as error:  # of lists of unequal lengths, a tensor on a GPU, ...
                raise DataError(f"{self.name}: {key} cannot be made an array: {error}") from error
        return arrays
