"""Finds the parts of a run by name: its dataset, model, partition, algorithm and so on.

The name of a part is one of

``shards``
    a built-in name: a line in `DATASETS`, `MODELS`, `PARTITIONS` or another such table;
``my_package.parts:by_hospital``
    an attribute of an importable module;
``./my_parts.py:by_hospital``
    an attribute of a Python file, relative to the folder of the suite file. A dataset may be a file as a whole;
``./scans.npz``, ``./photos``, ``torchvision:CIFAR100``
    data of a user's, or of torchvision, for a dataset: a built-in part reads it (see `fedbench.datasets.named`);
``by-hospital``
    an entry point of an installed package: group ``fedbench.components``, name ``partition.by-hospital``.

A part's options are its parameters: the fields of a dataclass, or the parameters of a function or class, for a function
without the `ARGUMENTS` of its kind. Their annotations are types with the constraints of pydantic, such as
``Annotated[float, Field(gt=0)]``. A part with ``**kwargs`` takes any other option that a suite names. Built-in parts
have no other way in. Finding a part by reference reads its source; only `Component.load` executes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from fedbench.aggregations import AGGREGATIONS
from fedbench.algorithms import ALGORITHMS
from fedbench.augmentations import AUGMENTATIONS
from fedbench.datasets import DATASETS
from fedbench.datasets.named import DATA, TORCHVISION, form_of, has_options, make_source
from fedbench.hooks import Algorithm
from fedbench.models import MODELS
from fedbench.optimisers import OPTIMISERS
from fedbench.partitions import PARTITIONS, FunctionPartition, Partition
from fedbench.util.errors import SuiteError
from fedbench.util.files import with_home
from fedbench.util.imports import (
    file_digest,
    has_changed,
    import_file,
    import_named,
    keep_source,
    kept_source,
    last_line,
    module_digest,
    module_source,
)
from fedbench.util.options import Options, declare_options
from fedbench.util.text import unknown

KINDS = ("dataset", "model", "partition", "algorithm", "optimiser", "aggregation", "augmentation")
GROUP = "fedbench.components"
ARGUMENTS = {"partition": 4, "optimiser": 2, "aggregation": 2, "augmentation": 2}  # of a function, before its options


@dataclass(frozen=True)
class Component:
    """A part of a run that was found.

    Attributes
    ----------
    kind
        One of `KINDS`.
    name
        As a suite file names it.
    target
        Where it is: ``module``, ``module:attribute`` or the same with the absolute path of a file.
    digest
        SHA-256 of its source: of the file, or of all modules of the package. None for a built-in part.
    more
        Options that a suite names beyond the declared ones. They count if the part takes any, by ``**kwargs``.
    data
        What a dataset is made of before its options, if a suite names it by that: a file, a folder or a name in
        torchvision. Its identity is the content, not this.
    """

    kind: str
    name: str
    target: str
    digest: str | None = None
    more: tuple[str, ...] = ()
    data: str = ""
    _datasets: dict[tuple[tuple[str, Any], ...], Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def file(self) -> Path | None:
        """The user's file that it is in."""
        source, _ = _split(self.target)
        return Path(source) if source.endswith(".py") else None

    @property
    def has_changed(self) -> bool:
        """Whether its file is another one than when it was found."""
        return self.file is not None and has_changed(self.file, str(self.digest))

    def named_from(self, folder: Path) -> str:
        """Its name in a suite file in another folder."""
        data = Path(self.data) if self.data and not self.name.startswith("torchvision:") else None
        if not (path := self.file or data):
            return self.name
        relative = Path(os.path.relpath(path, folder.absolute())).as_posix()
        _, attribute = _split(self.target) if self.file else ("", "")
        return f"{'' if relative.startswith('../') else './'}{relative}{f':{attribute}' if attribute else ''}"

    def load(self) -> Any:
        """The class, function or module itself, as its source was when it was found.

        Raises
        ------
        SuiteError
            If it cannot be imported.
        """
        return _load(self)

    def source(self) -> tuple[str, str]:
        """The name and the text of the file that it is in; of a package's, the version is the first line."""
        if self.file:
            return self.file.name, (kept_source(str(self.digest)) or b"").decode(errors="replace")
        return module_source(getattr(self.load(), "__module__", None) or _split(self.target)[0])

    def __reduce__(self) -> tuple[Any, ...]:
        source = kept_source(str(self.digest)) if self.file else None  # for a machine that does not have the file
        return _received, (source, self.kind, self.name, self.target, self.digest, self.more, self.data)

    @property
    def options(self) -> type[Options]:
        """The declaration of its options, with their types and defaults."""
        if self.digest is None and self.kind == "model":
            return MODELS[self.name].options  # reading the parameters of the model itself would import torch
        if self.digest is None and self.kind == "dataset" and not self.data:
            return Options  # these have none
        return _declared(self)

    def make(self, **options: Any) -> Any:
        """Make the part with these options: what its kind's package says, or a model; of a dataset, what loads it."""
        if self.kind == "dataset":
            key = tuple(sorted(options.items()))
            if key not in self._datasets:  # it may hold data, which is loaded once
                self._datasets[key] = make_source(self.load(), self.name, self.data, options)
            return self._datasets[key]
        part = self.load()
        if _is_function(self.kind, part):
            return FunctionPartition(part, options) if self.kind == "partition" else partial(part, **options)
        made = part(**options)
        base = {"partition": Partition, "algorithm": Algorithm}.get(self.kind, object)
        if not isinstance(made, base):
            raise SuiteError(f"{self.kind} {self.name} does not extend {base.__module__}.{base.__name__}")
        return made


@cache
def _load(part: Component) -> Any:
    source, attribute = _split(part.target)
    module = import_file(part.file, str(part.digest)) if part.file else import_named(source)
    if not attribute:
        return module
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise SuiteError(f"{part.kind} {part.name}: {unknown('attribute', attribute, public)}")
    return getattr(module, attribute)


def _received(source: bytes | None, *fields: Any) -> Component:
    part = Component(*fields)
    if source is not None:
        keep_source(str(part.digest), source)
    return part


def find(kind: str, name: object, folder: Path | None = None) -> Component:
    """Find a part.

    Parameters
    ----------
    kind
        One of `KINDS`.
    name
        See the module.
    folder
        What the path of a file is relative to, such as the folder of the suite file; the working directory if None.

    Raises
    ------
    SuiteError
        One line that says what is wrong with the name, and the nearest built-in name.
    """
    if isinstance(name, str):
        if kind == "dataset" and (form := form_of(name)):
            data = (
                name.partition(":")[2] if form == TORCHVISION else str((folder or Path()).absolute() / with_home(name))
            )
            if not data:
                raise SuiteError(f"dataset {name}: name a dataset of torchvision, as in torchvision:CIFAR100")
            return Component(kind, name, DATA[form], data=data)
        if ":" in name or name.endswith(".py"):
            return _by_reference(kind, name, folder or Path())
    built_in, offered = built_in_names(kind), installed(kind)
    if not isinstance(name, str) or not (name in built_in or name in offered):
        raise SuiteError(unknown(kind, name, [*built_in, *offered]))
    owners = [each.dist.name if each.dist else each.value for each in offered.get(name, [])]
    if name in built_in and owners:
        raise SuiteError(f"{kind} {name} is built in and an entry point of {owners[0]}; rename the entry point")
    if name in built_in:
        return Component(kind, name, built_in[name])
    if len(owners) > 1:
        raise SuiteError(f"{kind} {name} is an entry point of {' and of '.join(owners)}; uninstall one of them")
    (entry,) = offered[name]
    target = f"{entry.module}:{entry.attr}" if entry.attr else entry.module
    return Component(kind, name, target, module_digest(entry.module))


def built_in_names(kind: str) -> Mapping[str, str]:
    """The built-in parts: where each name is."""
    if kind == "model":
        return {name: info.target for name, info in MODELS.items()}
    return {
        "dataset": DATASETS,
        "partition": PARTITIONS,
        "algorithm": ALGORITHMS,
        "optimiser": OPTIMISERS,
        "aggregation": AGGREGATIONS,
        "augmentation": AUGMENTATIONS,
    }[kind]


@cache
def built_in_options(kind: str) -> Mapping[str, tuple[str, ...]]:
    """The options that built-in parts of a kind declare, and the names of those that read each."""
    readers: dict[str, list[str]] = {}
    for name, target in built_in_names(kind).items():
        for option in Component(kind, name, target).options.model_fields:
            readers.setdefault(option, []).append(name)
    return {option: tuple(names) for option, names in readers.items()}


def _split(reference: str) -> tuple[str, str]:
    """The module or file, and the attribute if there is one."""
    source, colon, attribute = reference.rpartition(":")
    return (source, attribute) if colon else (reference, "")


def _by_reference(kind: str, name: str, folder: Path) -> Component:
    source, attribute = _split(name)
    if not source or not (attribute or kind == "dataset"):
        raise SuiteError(f"{kind} {name}: name what to take from it, as in ./my_parts.py:my_{kind}")
    if not source.endswith(".py"):
        return Component(kind, name, name, module_digest(source))
    path = (folder / with_home(source)).absolute()
    return Component(kind, name, f"{path}:{attribute}" if attribute else str(path), file_digest(path))


def installed(kind: str | None = None) -> Mapping[str, list[metadata.EntryPoint]]:
    """The entry points of a kind, by name; without a kind all, by ``KIND.NAME``."""
    prefix = f"{kind}." if kind else ""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for each in _entry_points(tuple(sys.path)):
        if each.name.startswith(prefix):
            found.setdefault(each.name.removeprefix(prefix), []).append(each)
    return found


@cache
def _entry_points(search_path: tuple[str, ...]) -> metadata.EntryPoints:
    del search_path  # only the key of the cache
    return metadata.entry_points(group=GROUP)


@cache
def _declared(component: Component) -> type[Options]:
    kind, part = component.kind, component.load()
    if kind == "dataset" and not has_options(part):
        return Options  # a module or an object
    skipped = 1 if component.data else ARGUMENTS[kind] if _is_function(kind, part) else 0
    try:
        return declare_options(part, skipped, component.more)
    except Exception as error:
        raise SuiteError(f"{kind} {component.name}: its options cannot be read: {last_line(error)}") from None


def _is_function(kind: str, part: Any) -> bool:
    """Whether a part is called with the arguments of its kind and its options together.

    So is a class whose objects cannot be called, such as one that extends `torch.optim.Optimizer`.
    """
    if kind not in ARGUMENTS or not isinstance(part, type):
        return kind in ARGUMENTS
    return kind != "partition" and not any({"__call__", "for_model"} & vars(each).keys() for each in part.__mro__)
