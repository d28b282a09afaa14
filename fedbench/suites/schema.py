"""What a suite is made of: cells, runs, scenarios. The one home of every scenario field's default.

All are frozen and hashable, and importing them imports neither torch nor mlflow.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fedbench.algorithms import ALGORITHMS
from fedbench.datasets import DATASETS, dataset_info
from fedbench.models import MODELS
from fedbench.partitions import PARTITIONS
from fedbench.suites.conformance_schema import Reference
from fedbench.suites.tune_schema import TuneSpec
from fedbench.util.frozen import Fraction, Frozen

Init = Literal["shared", "independent"]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]  # beyond that is a slip of the hand
Positive = Annotated[float, Field(gt=0)]

CHOICES: dict[str, Collection[str]] = {
    "init": get_args(Init),
    "dataset": DATASETS,
    "model": MODELS,
    "partition": PARTITIONS,
    "algorithm": ALGORITHMS,
}
# What the choice of a field reads beside the fields that all runs read, with its defaults.
OPTIONS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "partition": {name: info.options for name, info in PARTITIONS.items()},
    "algorithm": {name: info.options for name, info in ALGORITHMS.items()},
}
FIELDS_SINCE = (
    frozenset(  # newer than `fedbench.runs.identity.ALGORITHM_REVISION`; a default leaves an identity as it was
        {
            "shards_per_client",
            "partition_alpha",
            "partition_sigma",
            "partition_column",
            "algorithm",
            "server_learning_rate",
            "server_momentum",
            "server_adaptivity",
            "proximal_weight",
            "target_accuracy",
            "stop_at_target",
            "interpolation_set",
        }
    )
)
OWNERS = {option: field for field, choices in OPTIONS.items() for options in choices.values() for option in options}


class CellSpec(Frozen):
    """Everything but the seed that moves a run's numbers: one point of a grid."""

    # Whether every client starts from one model (w_0) or each from its own.
    init: Init = "shared"
    # A key of `DATASETS`.
    dataset: str = "mnist-5k"
    # Which split of the dataset; None becomes its default, so it is a name ever after.
    split: str = Field(default=None, validate_default=True)
    # A key of `MODELS`.
    model: str = "simple-cnn"
    # A key of `PARTITIONS`: how the training examples are dealt to the clients.
    partition: str = "consecutive"
    # Shards that a client of `shards` has; here and below, None becomes the default of a partition that reads it.
    shards_per_client: Count | None = Field(default=None, validate_default=True)
    # Concentration of the Dirichlet distribution that `dirichlet` and `quantity-skew` draw from; small is skewed.
    partition_alpha: Annotated[float, Field(ge=1e-6, le=1e6)] | None = Field(default=None, validate_default=True)
    # Standard deviation of the logarithms of the clients' sizes in `quantity-skew`.
    partition_sigma: Annotated[float, Field(gt=0, le=100)] | None = Field(default=None, validate_default=True)
    # The column of metadata whose values are the clients of `by-column`.
    partition_column: str | None = Field(default=None, validate_default=True)
    # Clients in all (the paper's K).
    num_clients: Count = 2
    # Training examples of each client (n_k), or their mean; None: all there are, divided by the clients.
    examples_per_client: Count | None = None
    # Clients selected each round, as a fraction of all (C); 0: one client.
    client_fraction: Fraction = 1.0
    # Passes of a client over its examples in each round (E).
    local_epochs: Count = 5
    # Examples in a step of SGD (B); None: all that the client has.
    batch_size: Count | None = 50
    # Step size of the clients' SGD (the paper's eta).
    learning_rate: Positive = 0.01
    # A key of `ALGORITHMS`: what clients and server do beyond averaging.
    algorithm: str = "fedavg"
    # Step size of the server; here and below, None becomes the default of an algorithm that reads it.
    server_learning_rate: Positive | None = Field(default=None, validate_default=True)
    # Share of the server's last step that its next one keeps (beta, or beta_1).
    server_momentum: Annotated[Fraction, Field(lt=1)] | None = Field(default=None, validate_default=True)
    # What keeps the steps of an adaptive server small where changes are (tau).
    server_adaptivity: Positive | None = Field(default=None, validate_default=True)
    # Weight of the proximal term of `fedprox` (mu).
    proximal_weight: Annotated[float, Field(ge=0)] | None = Field(default=None, validate_default=True)
    # Times that the server averages.
    rounds: Count = 5
    # The test accuracy (a fraction) whose first round is measured; None: none.
    target_accuracy: Annotated[Fraction, Field(gt=0)] | None = None
    # Whether a run ends with the round that reaches it.
    stop_at_target: bool = False
    # A run whose final test accuracy (a fraction) is below this fails; None: no demand.
    require_accuracy: Fraction | None = None
    # Whether a run fails whose training loss in the last round is not below the first round's.
    require_loss_fall: bool = False
    # Whether the models between and beyond the two clients' own are measured too, as in the paper's figure 1.
    interpolation: bool = False
    # On what: the test set, or the training data as in that figure.
    interpolation_set: Literal["test", "train"] = "test"

    @field_validator(*CHOICES, mode="before")
    @classmethod
    def _is_known(cls, value: object, info: ValidationInfo) -> object:
        field = str(info.field_name)
        if not isinstance(value, str) or value not in CHOICES[field]:
            raise ValueError(unknown(field, value, CHOICES[field]))
        return value

    @field_validator("split", mode="before")
    @classmethod
    def _default_split(cls, value: object, info: ValidationInfo) -> object:
        dataset = info.data.get("dataset")  # missing if it was not valid: then that is the error shown
        return dataset_info(dataset).default_split if value is None and dataset else value

    @field_validator(*OWNERS, mode="before")
    @classmethod
    def _default_option(cls, value: object, info: ValidationInfo) -> object:
        owner = OWNERS[str(info.field_name)]
        chosen = info.data.get(owner)  # missing if it was not valid: then that is the error shown
        return OPTIONS[owner][chosen].get(str(info.field_name)) if value is None and chosen else value

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        for option, owner in OWNERS.items():
            readers = [choice for choice, options in OPTIONS[owner].items() if option in options]
            if getattr(self, option) is not None and getattr(self, owner) not in readers:
                raise ValueError(
                    f"{option}: {owner} {getattr(self, owner)} does not read it; leave it out, or set {owner} to "
                    f"{', '.join(readers[:-1])}{' or ' if readers[1:] else ''}{readers[-1]}"
                )
        if self.partition == "quantity-skew" and (self.partition_alpha is None) == (self.partition_sigma is None):
            raise ValueError(
                "quantity-skew: set partition_sigma for log-normal sizes, or partition_alpha for Dirichlet ones"
            )
        if self.partition == "by-column" and self.partition_column is None:
            raise ValueError("by-column: set partition_column to the column of metadata whose values are the clients")
        if self.partition == "by-column" and self.examples_per_client is not None:
            raise ValueError("by-column: groups have the sizes that they have; leave examples_per_client out")
        if self.shards_per_client and self.num_examples % self.shards_per_client:
            raise ValueError(
                f"shards: the {self.num_examples} examples of a client do not divide into {self.shards_per_client} "
                "equal shards; set examples_per_client or shards_per_client to what does"
            )
        if self.stop_at_target and self.target_accuracy is None:
            raise ValueError("stop_at_target: there is no target; set target_accuracy")
        if self.interpolation_set == "train" and not self.interpolation:
            raise ValueError("interpolation_set: nothing is interpolated; set interpolation to true")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.require_loss_fall and self.rounds == 1:
            raise ValueError("require_loss_fall: compares the last round with the first; set rounds to 2 or more")
        if self.interpolation and (self.num_clients != 2 or self.client_fraction != 1):
            raise ValueError("interpolation: it is between two models; set num_clients to 2 and client_fraction to 1")
        dataset = dataset_info(self.dataset)
        if self.split not in dataset.sizes:
            raise ValueError("split: " + unknown(f"split of {self.dataset}", self.split, dataset.sizes))
        wanted = (dataset.image_shape, dataset.num_classes)
        if (MODELS[self.model].image_shape, MODELS[self.model].num_classes) != wanted:
            fitting = [name for name, model in MODELS.items() if (model.image_shape, model.num_classes) == wanted]
            raise ValueError(
                f"model: {self.model} takes {_shape(MODELS[self.model])}, but dataset {self.dataset} has "
                f"{_shape(dataset)}; models that fit: {', '.join(fitting) or 'none yet'}"
            )
        return self

    def options_of(self, owner: str) -> dict[str, Any]:
        """The options that the choice of `owner`, ``partition`` or ``algorithm``, reads."""
        return {option: getattr(self, option) for option in OPTIONS[owner][getattr(self, owner)]}

    @property
    def available(self) -> int:
        """Number of training examples that the dataset has in this split."""
        return dataset_info(self.dataset).sizes[self.split][0]

    @property
    def num_examples(self) -> int:
        """Training examples of each client (n_k) or their mean, with None resolved to floor(N / K)."""
        if self.examples_per_client is None:
            return self.available // self.num_clients
        return self.examples_per_client

    @property
    def examples_needed(self) -> int:
        """Training examples that the partition takes; every client has at least one."""
        clients = 1 if PARTITIONS[self.partition].is_overlapping else self.num_clients
        return clients * max(self.num_examples, 1)

    @property
    def clients_per_round(self) -> int:
        """Clients selected each round, m = max(round(C·K), 1): as in `core`, which knows nothing of specs."""
        return max(round(self.client_fraction * self.num_clients), 1)

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
        product = (
            "" if PARTITIONS[self.partition].is_overlapping else f"{self.num_clients} x {self.examples_per_client} = "
        )
        return f"needs {product}{self.examples_needed} training examples; {self.dataset} has {self.available}"


class RunSpec(Frozen):
    """A cell with one seed: the smallest thing that is executed."""

    suite: str
    scenario: str
    cell: str  # the cell's label
    spec: CellSpec
    seed: int


class Cell(Frozen):
    """One point of a scenario's grid, to be run once a seed."""

    suite: str
    scenario: str
    spec: CellSpec
    axes: tuple[str, ...]  # the fields that the scenario gives a list for, in the order of `CellSpec`
    seeds: tuple[int, ...]

    @property
    def label(self) -> str:
        """Short text that all runs of this cell share, such as ``grid num_clients=5 init=shared``."""
        return " ".join([self.scenario, *(f"{axis}={_plain(getattr(self.spec, axis))}" for axis in self.axes)])

    def runs(self) -> tuple[RunSpec, ...]:
        """One run for each seed."""
        return tuple(
            RunSpec(suite=self.suite, scenario=self.scenario, cell=self.label, spec=self.spec, seed=seed)
            for seed in self.seeds
        )


class Scenario(Frozen):
    """A named configuration and the cells of its grid; the last axis varies fastest."""

    name: str
    cells: tuple[Cell, ...]


class Suite(Frozen):
    """The contents of one suite file: scenarios that are run together."""

    name: str
    question: str
    seeds: tuple[int, ...]
    scenarios: tuple[Scenario, ...]
    path: Path
    tune: TuneSpec = TuneSpec()  # what `fedbench tune` searches; `fedbench run` does not look at it
    conformance: tuple[Reference, ...] = ()  # published results, for `fedbench conformance`

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of all scenarios, in the order of the file."""
        return tuple(cell for scenario in self.scenarios for cell in scenario.cells)

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """The runs of all cells, cell by cell."""
        return tuple(run for cell in self.cells for run in cell.runs())


def identifying_fields(spec: CellSpec) -> dict[str, Any]:
    """All fields of `spec` but those of `FIELDS_SINCE` that have their defaults."""
    values, fields = spec.model_dump(mode="json"), CellSpec.model_fields
    return {key: values[key] for key in values if key not in FIELDS_SINCE or values[key] != fields[key].default}


def unknown(kind: str, value: object, valid: Collection[str]) -> str:
    """Say that `value` is not one of `valid`: which is nearest, and which there are."""
    nearest = get_close_matches(str(value)[:100], list(valid), n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"unknown {kind} {show(value)}; {hint}choose from {', '.join(valid) or 'nothing yet'}"


def show(value: object) -> str:
    """Write a value as YAML does, short enough for one line of an error message."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)


def _plain(value: object) -> str:
    """Write a value for a label: text as it is."""
    return value if isinstance(value, str) else show(value)


def _shape(part: Any) -> str:
    """Write what a model takes or a dataset has."""
    return f"{'x'.join(map(str, part.image_shape))} images of {part.num_classes} classes"
