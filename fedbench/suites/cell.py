"""One point of a grid: its scenario fields, and the parts that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from fedbench.components import KINDS, Component, built_in_names, find
from fedbench.datasets import DatasetInfo, is_deferred, splits_of
from fedbench.hooks import Algorithm
from fedbench.models import MODELS
from fedbench.suites.fields import (
    COMMON,
    CommonFields,
    Finder,
    default_split,
    find_part,
    in_order,
    read_options,
    refuse_twice,
    refuse_unread,
    without_implied,
)
from fedbench.util.errors import DataError, SuiteError, one_line
from fedbench.util.selection import num_selected
from fedbench.util.text import unknown

if TYPE_CHECKING:
    from torch import nn


class CellSpec(CommonFields):
    """Everything but the seed that moves a run's numbers.

    It is made of flat scenario fields: the common ones, and the options of the chosen parts, which declare and check
    them. The options are in `model_extra`. They are never None there: null leaves an option out, so that the part's own
    default holds.
    """

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=False)

    # The parts that are not built in, with the digests of their sources. No scenario field, and not in a dump.
    parts: tuple[Component, ...] = Field(default=(), exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _find_parts(cls, given: Any, info: ValidationInfo) -> Any:
        """Find the parts, and let them check their options and fill in defaults."""
        if not isinstance(given, dict):
            return given
        finder: Finder = (info.context or {}).get("find", find)
        chosen = {kind: given.get(kind, CommonFields.model_fields[kind].default) for kind in KINDS}
        parts = {kind: find_part(finder, kind, name) for kind, name in chosen.items()}
        common = {field: value for field, value in given.items() if field in COMMON}
        left = {field: value for field, value in given.items() if field not in COMMON and field != "parts"}
        options: dict[str, Any] = {}
        names: set[str] = set()
        shared: set[str] = set()  # by several parts; not set, each has its own default
        for part in parts.values():
            declared = part.options.model_fields.keys()
            if twice := declared & names:
                refuse_twice(twice, part, parts.values(), left)
                shared |= twice
            names |= declared
            own = read_options(part, left)
            options |= own
            if part.kind == "dataset":
                split = default_split(part, own)
                common["split"] = split if common.get("split") is None else common["split"]
        for field, value in left.items():
            if not any(field in part.options.model_fields for part in parts.values()):
                refuse_unread(field, value, parts, (info.context or {}).get("fields", ()))
        for option in shared:
            options.pop(option, None)
        return common | options | {"parts": tuple(part for part in parts.values() if part.digest or part.data)}

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.stop_at_target and self.target_accuracy is None:
            raise ValueError("stop_at_target: there is no target; set target_accuracy")
        if self.interpolation_set == "train" and not self.interpolation:
            raise ValueError("interpolation_set: nothing is interpolated; set interpolation to true")
        if self.require_loss_fall and self.rounds == 1:
            raise ValueError("require_loss_fall: compares the last round with the first; set rounds to 2 or more")
        if self.interpolation and (self.num_clients != 2 or self.client_fraction != 1):
            raise ValueError("interpolation: it is between two models; set num_clients to 2 and client_fraction to 1")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        dataset = self.part("dataset")
        if self.split not in (splits := splits_of(dataset)):
            raise ValueError("split: " + unknown(f"split of {self.dataset}", self.split, splits))
        if not is_deferred(dataset):
            self._require_fitting_model(dataset.INFO)
        partition, algorithm, optimiser, aggregation, _ = (
            self._make(kind) for kind in ("partition", "algorithm", "optimiser", "aggregation", "augmentation")
        )
        if partition.has_own_sizes and self.examples_per_client is not None:
            raise ValueError(f"{self.partition}: the data determines the clients' sizes; leave examples_per_client out")
        if partition.parts_per_client > 1:
            self._require_equal_parts(partition.parts_per_client)
        if algorithm.assumes_descent and not (getattr(optimiser, "is_plain", False) and self.clip_norm is None):
            raise ValueError(
                f"{self.algorithm}: it takes a client's change for a sum of gradients, so steps must be those of plain "
                "SGD; leave out momentum, weight_decay and clip_norm, with optimiser sgd"
            )
        least = getattr(aggregation, "min_clients", 1)
        if not isinstance(least, int):
            raise ValueError(f"{self.aggregation}: its min_clients is {least!r}; it must be a whole number")
        if least > self.clients_per_round:
            raise ValueError(
                f"{self.aggregation}: it needs {least} clients in each round, and {self.clients_per_round} are selected"
                "; raise num_clients or client_fraction"
            )
        if getattr(aggregation, "permutes", False) and type(algorithm).message is not Algorithm.message:
            raise ValueError(
                f"aggregation: {self.aggregation} changes the order of units, but not in what clients of "
                f"{self.algorithm} send and remember; set another algorithm or aggregation"
            )
        self._require_public_examples(getattr(aggregation, "num_public", 0))
        return self

    def _require_public_examples(self, number: int) -> None:
        is_own = self.component("partition").digest or self.part("partition").has_own_sizes
        if number == 0 or is_own or is_deferred(self.part("dataset")):
            return  # the rest is known when the data is dealt
        left = self.available - self.examples_needed
        if 0 <= left < number:
            raise ValueError(
                f"public_examples: clients hold all but {left} of {self.available} training examples, but {number} "
                "must be public; lower public_examples or set a smaller examples_per_client"
            )

    def _require_equal_parts(self, number: int) -> None:
        try:
            size = self.num_examples
        except DataError as error:  # of a dataset that had to be loaded to know its size
            raise ValueError(f"dataset: {error}") from None
        if size % number:
            raise ValueError(
                f"{self.partition}: the {size} examples of a client do not divide into {number} equal parts; "
                "set examples_per_client to a multiple"
            )

    def _require_fitting_model(self, dataset: DatasetInfo) -> None:
        wanted = (dataset.image_shape, dataset.num_classes)
        info = MODELS.get(self.model)  # a model of the user's is known when it is built
        if info and (info.image_shape, info.num_classes) != wanted:
            fitting = [name for name, each in MODELS.items() if (each.image_shape, each.num_classes) == wanted]
            raise ValueError(
                f"model: {self.model} takes {_shape(info)}, but dataset {self.dataset} has {_shape(dataset)}; "
                f"models that fit: {', '.join(fitting) or 'none yet'}"
            )

    def _make(self, kind: str) -> Any:
        """`part`, where an error of its code is an error of the options."""
        try:
            return self.part(kind)
        except Exception as error:
            said = str(error) if isinstance(error, ValueError | SuiteError) else one_line(error)
            raise ValueError(f"{getattr(self, kind)}: {said}") from None

    def __hash__(self) -> int:
        return hash((*self.__dict__.values(), *(self.model_extra or {}).items()))

    # The flat fields

    @property
    def values(self) -> dict[str, Any]:
        """All scenario fields by name, the options after the part that reads them."""
        found = self.model_dump()
        return {field: found[field] for field in in_order(found)}

    def get(self, field: str) -> Any:
        """The value of a scenario field; None for an option that this cell does not have."""
        return getattr(self, field) if field in COMMON else (self.model_extra or {}).get(field)

    def has(self, field: str) -> bool:
        """Whether this cell has a scenario field, as all have the common ones."""
        return field in COMMON or field in (self.model_extra or {})

    @property
    def identity(self) -> dict[str, Any]:
        """What determines a run's numbers: the fields, the source of each part that is not built in, and revisions.

        Fields are left out that are null, or newer than the runs which had these values all the same. So is a dataset
        that is named by its data: its content counts, which is not known here.
        """
        more = {f"{part.kind} source": part.digest for part in self.parts if part.digest}
        if (revision := self.part("algorithm").revision) != 1:
            more["algorithm revision"] = revision
        named_by_data = {part.kind for part in self.parts if part.data}
        return without_implied(self.model_dump(mode="json", exclude_none=True, exclude=named_by_data)) | more

    def replace(self, values: Mapping[str, Any], finder: Finder = find) -> CellSpec:
        """A cell with other values of some fields, checked.

        Options of a part that is replaced are dropped where they have its defaults. `finder` finds the parts that this
        cell does not have yet.
        """
        known = {(each.kind, each.name): each for each in self.parts}
        fields = self.model_dump()
        for kind in KINDS:
            if values.get(kind, getattr(self, kind)) != getattr(self, kind):
                for option, declared in self.component(kind).options.model_fields.items():
                    if fields.get(option) == declared.default:
                        fields.pop(option, None)

        def find_here(kind: str, name: object) -> Component:
            return known.get((kind, str(name))) or finder(kind, name)

        return CellSpec.model_validate(fields | dict(values), context={"find": find_here})

    # The parts

    def component(self, kind: str) -> Component:
        """The chosen part of a kind, as it was found."""
        for part in self.parts:
            if part.kind == kind:
                return part
        name: str = getattr(self, kind)
        return Component(kind, name, built_in_names(kind)[name])

    def options_of(self, kind: str) -> dict[str, Any]:
        """The options of the chosen part of a kind."""
        extra = self.model_extra or {}
        return {option: extra[option] for option in self.component(kind).options.model_fields if option in extra}

    def part(self, kind: str) -> Any:
        """The chosen `Partition`, `Algorithm` or model with its options, or the object that loads the dataset."""
        return self.component(kind).make(**self.options_of(kind))

    @property
    def augment(self) -> Any:
        """What changes the inputs of a batch; None where nothing does."""
        return None if self.augmentation == "none" else self.part("augmentation")

    def build_model(self) -> nn.Module:
        """A new model with random parameters."""
        model: nn.Module = self.part("model")
        return model

    # Sizes

    @property
    def available(self) -> int:
        """Number of training examples that the dataset has in this split."""
        available: int = self.part("dataset").INFO.sizes[self.split][0]
        return available

    @property
    def num_examples(self) -> int:
        """Training examples of each client (n_k) or their mean, with None resolved to floor(N / K)."""
        if self.examples_per_client is None:
            return self.available // self.num_clients
        return self.examples_per_client

    @property
    def is_overlapping(self) -> bool:
        """Whether clients may share examples."""
        overlapping: bool = self.part("partition").is_overlapping
        return overlapping

    @property
    def examples_needed(self) -> int:
        """Training examples that the partition takes; every client has at least one."""
        return (1 if self.is_overlapping else self.num_clients) * max(self.num_examples, 1)

    @property
    def clients_per_round(self) -> int:
        """Clients selected each round, m; fewer where fewer have examples, which is not known here."""
        return num_selected(self.client_fraction, self.num_clients)

    def local_steps(self, rounds: int | None = None) -> int:
        """SGD steps that all clients take together in `rounds` rounds, or in all: T · m · E · ⌈n_k / B⌉."""
        batches = -(-self.num_examples // (self.batch_size or self.num_examples))
        return (self.rounds if rounds is None else rounds) * self.clients_per_round * self.local_epochs * batches

    def shortfall(self) -> str | None:
        """Say in one line why the data is too small for this cell; None if it is not."""
        if self.num_examples > 0 and self.examples_needed <= self.available:
            return None
        if self.examples_per_client is None:
            return f"{self.num_clients} clients share {self.available} training examples of {self.dataset}: 0 for each"
        product = "" if self.is_overlapping else f"{self.num_clients} x {self.examples_per_client} = "
        return f"needs {product}{self.examples_needed} training examples; {self.dataset} has {self.available}"


def _shape(part: Any) -> str:
    """Write what a model takes or a dataset has."""
    what = "images" if len(part.image_shape) == 3 else "inputs"
    return f"{'x'.join(map(str, part.image_shape))} {what} of {part.num_classes} classes"
