"""The scenario fields: those that all cells have, and the options that parts declare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from fedbench.components import KINDS, Component, built_in_options
from fedbench.datasets import splits_of
from fedbench.util.advice import command
from fedbench.util.errors import FedbenchError, SuiteError
from fedbench.util.frozen import Count, Fraction, Frozen, Positive
from fedbench.util.imports import last_line
from fedbench.util.text import any_of, unknown

Finder = Callable[[str, object], Component]


class CommonFields(Frozen, use_attribute_docstrings=True):
    """The fields that all cells have, and the one home of their defaults."""

    init: Literal["shared", "independent"] = "shared"
    """Whether every client starts from one model (w_0) or each from its own."""
    dataset: str = "mnist-5k"
    """The dataset; this and the other parts by a name as in `fedbench.components`."""
    split: str = None  # type: ignore[assignment] # filled in before it is checked
    """Which split of the dataset; None becomes its default, so it is never None afterwards."""
    pixels: Literal["standardised", "unit"] = "standardised"
    """How 8-bit images are scaled: by each channel's mean and standard deviation, or to [0, 1] alone. For images
    only."""
    model: str = "simple-cnn"
    """The network; it must take the dataset's images."""
    partition: str = "consecutive"
    """How the training examples are dealt to the clients."""
    num_clients: Count = 2
    """Clients in all (the paper's K)."""
    examples_per_client: Count | None = None
    """Training examples of each client (n_k), or their mean; None: all there are, divided by the clients."""
    client_fraction: Fraction = 1.0
    """Clients selected each round, as a fraction of all (C), with or without examples; 0: one client."""
    local_epochs: Count = 5
    """Passes of a client over its examples in each round (E)."""
    batch_size: Count | None = 50
    """Examples in a step (B); None: all that the client has."""
    learning_rate: Positive = 0.01
    """Step size of the clients' optimiser (the paper's eta)."""
    learning_rate_decay: Annotated[Fraction, Field(gt=0)] = 1.0
    """What the learning rate is multiplied by after each round: in round t it is learning_rate * decay^(t - 1)."""
    optimiser: str = "sgd"
    """How the clients take their steps."""
    clip_norm: Positive | None = None
    """The largest Euclidean norm of a step's gradient, which is scaled down to it; None: any norm."""
    augmentation: str = "none"
    """Random changes of the training inputs."""
    algorithm: str = "fedavg"
    """What clients and server do beyond averaging."""
    aggregation: str = "mean"
    """How the server combines the clients' models."""
    weights: Literal["examples", "uniform"] = "examples"
    """Whether a client counts by its number of examples (n_k), or as much as any other."""
    average_frozen: bool = False
    """Whether parameters that are not trained are averaged too; otherwise they stay those of the initial model."""
    rounds: Count = 5
    """Times that the server averages."""
    target_accuracy: Annotated[Fraction, Field(gt=0)] | None = None
    """The test accuracy (a fraction) whose first round is measured; None: none."""
    stop_at_target: bool = False
    """Whether a run ends with the round that reaches it."""
    require_accuracy: Fraction | None = None
    """A run whose final test accuracy (a fraction) is below this fails; None: no demand."""
    require_loss_fall: bool = False
    """Whether a run fails whose training loss in the last round is not below the first round's."""
    interpolation: bool = False
    """Whether the models between and beyond the two clients' own are measured too, as in the paper's figure 1."""
    interpolation_set: Literal["test", "train"] = "test"
    """On what: the test set, or the training data as in that figure."""


COMMON = tuple(CommonFields.model_fields)
SEE_FIELDS = command("fedbench", "suites", "--fields")  # lists them
# Fields and options that earlier versions lacked, and what their runs had: not their defaults, should these change.
IMPLIED: Mapping[str, Any] = {
    "learning_rate_decay": 1.0,
    "optimiser": "sgd",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "nesterov": False,
    "augmentation": "none",
    "aggregation": "mean",
    "weights": "examples",
    "average_frozen": False,
    "pixels": "standardised",
}

# The same of options of one model, which others may have by the same name.
IMPLIED_BY_MODEL: Mapping[str, Mapping[str, Any]] = {"simple-cnn": {"width": 1}}


def implied(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an earlier version's runs had where it lacked the scenario field."""
    return {**IMPLIED, **IMPLIED_BY_MODEL.get(fields["model"], {})}


def without_implied(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Scenario fields as an earlier version had them, if it had them."""
    had = implied(fields)
    return {field: value for field, value in fields.items() if field not in had or value != had[field]}


@cache
def known_fields() -> tuple[str, ...]:
    """The common fields and the options of the built-in parts, which follow the field that chooses the part."""
    return tuple(name for field in COMMON for name in (field, *(built_in_options(field) if field in KINDS else ())))


def in_order(names: Iterable[str]) -> list[str]:
    """Scenario fields in the order of `known_fields`, then the options of other parts as they come."""
    rank = {field: position for position, field in enumerate(known_fields())}
    return sorted(names, key=lambda name: rank.get(name, len(rank)))


def find_part(finder: Finder, kind: str, name: object) -> Component:
    """Find a part; what is wrong with it is an error of the field `kind`."""
    try:
        part = finder(kind, name)
        taken = [name for name, field in part.options.model_fields.items() if name in COMMON and field.is_required()]
    except SuiteError as error:
        raise _problem(kind, name, str(error)) from None
    if taken:
        raise _problem(kind, name, f"{name}: an option cannot be called {taken[0]}, as a field of all cells; rename it")
    return part


def default_split(part: Component, options: Mapping[str, Any]) -> str:
    """The split of a dataset where none is named; what is wrong with its data is an error of the field."""
    try:
        return splits_of(part.make(**options))[0]
    except FedbenchError as error:
        raise _problem(part.kind, part.name, str(error)) from None
    except Exception as error:  # of a user's class
        raise _problem(part.kind, part.name, f"{part.name}: {last_line(error)}") from None


def _problem(field: str, value: object, text: str) -> ValidationError:
    """An error of one field, which pydantic adds to those of the others."""
    problem = PydanticCustomError("suite", "{error}", {"error": text})
    return ValidationError.from_exception_data("CellSpec", [InitErrorDetails(type=problem, loc=(field,), input=value)])


def read_options(part: Component, given: Mapping[str, Any]) -> dict[str, Any]:
    """The part's options with their defaults.

    Left out are those that are None, and those called as a field of all cells, which the part has by its own default.
    """
    declared = part.options
    own = {option: given[option] for option in declared.model_fields if given.get(option) is not None}
    for option, field in declared.model_fields.items():
        if field.is_required() and option not in own:
            about = f" ({field.description.rstrip('.')})" if field.description else ""
            raise _problem(option, None, f"{part.kind} {part.name} needs {option}{about}; set it")
    options = declared.model_validate(own).model_dump()
    return {option: value for option, value in options.items() if value is not None and option not in COMMON}


def refuse_twice(options: Iterable[str], part: Component, parts: Iterable[Component], given: Mapping[str, Any]) -> None:
    """Refuse to set an option that another chosen part has too: one value would go to both."""
    for option in options:
        if given.get(option) is not None:
            other = next(each for each in parts if each.kind != part.kind and option in each.options.model_fields)
            text = f"{part.name} and {other.kind} {other.name} both have an option {option}; rename one of them"
            raise _problem(part.kind, part.name, f"{part.kind}: {text}")


def refuse_unread(field: str, value: object, parts: Mapping[str, Component], known: Collection[str]) -> None:
    """Refuse a field that no chosen part reads, unless it is an option that is null; `known` are those of the suite."""
    for kind in KINDS:
        if readers := built_in_options(kind).get(field):
            if value is not None:
                text = f"{kind} {parts[kind].name} does not read it; leave it out, or set {kind} to {any_of(readers)}"
                raise _problem(field, value, f"{field}: {text}")
            return
    if field in known:
        text = f"{field}: no part of this cell reads it; set it with one that does, as in {{use: NAME, {field}: ...}}"
        raise _problem(field, value, text)
    own = [option for part in parts.values() for option in part.options.model_fields]
    raise _problem(field, value, unknown("field", field, dict.fromkeys([*known_fields(), *own]), SEE_FIELDS))
