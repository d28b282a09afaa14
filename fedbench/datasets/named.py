"""What a suite can name as a dataset besides a built-in one: data itself, or code that returns or loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedbench.datasets.function import FunctionDataset
from fedbench.util.errors import SuiteError

NPZ, FOLDER, TORCHVISION = "./FILE.npz", "./FOLDER", "torchvision:NAME"
# What reads data that is named by itself.
DATA = {
    NPZ: "fedbench.datasets.npz:NpzDataset",
    FOLDER: "fedbench.datasets.pictures:PictureDataset",
    TORCHVISION: "fedbench.datasets.torchvision_sets:TorchvisionDataset",
}


def form_of(name: str) -> str | None:
    """The key of `DATA` for the name of data; None for the name of a built-in dataset or of code."""
    if name.startswith("torchvision:"):
        return TORCHVISION
    if name.endswith(".npz"):
        return NPZ
    is_code = name.endswith(".py") or name.rpartition(":")[0].endswith(".py")
    return FOLDER if not is_code and ("/" in name or "\\" in name) else None


def has_options(part: Any) -> bool:
    """Whether a part is a function or class with parameters, not a module or an object that loads data as it is."""
    return callable(part) and (isinstance(part, type) or not hasattr(part, "INFO"))


def make_source(part: Any, name: str, data: str, options: Mapping[str, Any]) -> Any:
    """The object with ``INFO`` and ``load`` (see `fedbench.datasets`) of a part, which a suite calls `name`."""
    if data:
        return part(data, **options)
    if has_options(part) and not isinstance(part, type):
        return FunctionDataset(part, options, name)
    made = part(**options) if isinstance(part, type) else part
    if lacking := [each for each in ("INFO", "load") if not hasattr(made, each)]:
        raise SuiteError(f"dataset {name} has no {lacking[0]}; see the docstring of fedbench.datasets")
    return made
