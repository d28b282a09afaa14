"""The door of a store: what a run holds is checked before anything reads it.

A person, another tool or another version may have written it. A run that is not as fedbench writes it is left out by
name: it does not count as finished, and nothing of it is changed or deleted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from fedbench.measures import CLIENT_ACCURACY, Verdict
from fedbench.suites.fields import COMMON, CommonFields
from fedbench.tracking.records import REPORTED
from fedbench.util.once import warn_once
from fedbench.util.text import show

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PREFIX = "fedbench."  # of our tags
MAX_WHOLE = 2**63 - 1
MAX_TEXT = 1_000  # characters of a label or an option
ALL = "all"  # of a field that is null
NULL_IS_ALL = ("batch_size",)  # the fields of which it is written, since their default is a number
CONSTANTS = {"None": None, "True": True, "False": False}


def whole_number(text: str) -> int:
    """The number from 0 to `MAX_WHOLE` that a text is, as fedbench writes it; a `ValueError` if it is none."""
    is_short = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_WHOLE))
    if not is_short or str(int(text)) != text or int(text) > MAX_WHOLE:
        raise ValueError(f"{show(text)} is no whole number from 0 to 2**63 - 1")
    return int(text)


def param_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Scenario fields as MLflow keeps them: null ones are left out, or `ALL` where a field's default is another."""
    nulls = (None, "None")  # as earlier versions wrote it
    texts = {field: ALL if field in NULL_IS_ALL and value in nulls else value for field, value in values.items()}
    return {field: str(value) for field, value in texts.items() if value not in nulls}


def parameter(field: str, text: str) -> str | float | bool | None:
    """The value of a scenario field, of which MLflow keeps the text."""
    if field in NULL_IS_ALL and text == ALL:
        return None
    if field in COMMON and CommonFields.model_fields[field].annotation is str:
        return text
    if text in CONSTANTS:
        return CONSTANTS[text]
    for kind in (int, float):
        with suppress(ValueError):
            if str(value := kind(text)) == text and math.isfinite(value) and abs(value) <= MAX_WHOLE:
                return value
    return text


def spec_values(params: Mapping[str, str]) -> Mapping[str, Any]:
    """The fields of a cell as they are recorded; another installation may know other parts and options.

    Raises `ValueError` if a field that all cells have has another type, or is out of its bounds, or any is longer than
    `MAX_TEXT`.
    """
    return _spec_values(tuple(each for each in params.items() if each[0] != "seed"))  # once for all seeds


@lru_cache(maxsize=1_000)
def _spec_values(params: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    for field, text in params:
        if len(text) > MAX_TEXT:
            raise ValueError(f"parameter {field} is {show(text)}")
    values = {field: parameter(field, text) for field, text in params}
    given = {field: values.pop(field) for field in COMMON if field in values}
    may_be_left = {field for field, value in given.items() if value is CommonFields.model_fields[field].default}
    try:
        common = CommonFields.model_validate({field: given[field] for field in given.keys() - may_be_left})
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise ValueError(f"parameter {field} is {show(dict(params)[field])}") from None
    return common.model_dump() | {field: value for field, value in values.items() if value is not None}


def names_of(text: str) -> dict[str, str]:
    """Names by name, of which a tag keeps the JSON; a `ValueError` if it is something else."""
    return TypeAdapter(dict[str, str]).validate_json(text)


def _checked_metric(name: str) -> str:
    if name.startswith(CLIENT_ACCURACY):
        whole_number(name.removeprefix(CLIENT_ACCURACY))
    return name


def _checked_fields(params: dict[str, str]) -> dict[str, str]:
    spec_values(params)
    return params


def _checked_threshold(params: dict[str, str]) -> dict[str, str]:
    try:
        float(params.get("threshold", math.nan))
    except ValueError:
        raise ValueError(f"parameter threshold is {show(params['threshold'])}") from None
    return params


Time = Annotated[int, Field(ge=0, le=253_402_300_799_999)]  # milliseconds since 1970, up to the year 9999
Name = Annotated[str, Field(pattern=r"^[0-9A-Za-z_ ]{1,128}$")]  # it also names files
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Whole = Annotated[str, AfterValidator(whole_number)]
Measured = dict[str, Annotated[float, Field(gt=-1e300, lt=1e300)]]


class _Run(BaseModel):
    """A run of any kind: what MLflow knows of it, and its tags without their prefix."""

    model_config = ConfigDict(strict=True)

    status: str
    start_time: Time
    end_time: Time | None


class _Seed(_Run):
    fingerprint: Name
    cell_fingerprint: Name | None = None
    scenario: Text
    cell: Text
    seed: Whole
    verdict: Annotated[Verdict, Field(strict=False)] | None = None
    metrics: dict[Annotated[str, AfterValidator(_checked_metric)], float]
    params: Annotated[dict[str, str], AfterValidator(_checked_fields)]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.status == "FINISHED" and (self.verdict is None or not set(REPORTED) <= self.metrics.keys()):
            raise ValueError("it is finished without a verdict, or without its numbers")
        return self


class _Cell(_Run):
    cell_fingerprint: Name


class _Trial(_Run):
    trial: Whole


class _Benchmark(_Run):
    benchmark: Text
    commits: Whole = "0"
    metrics: Measured


class _Check(_Run):
    commits: Whole = "0"
    names: Annotated[str, AfterValidator(names_of)] = "{}"
    metrics: Measured
    params: Annotated[dict[str, str], AfterValidator(_checked_threshold)]


KINDS: dict[str | None, type[_Run]] = {
    "run": _Seed,
    "cell": _Cell,
    "report": _Run,
    "study": _Run,
    "trial": _Trial,
    "check": _Check,
    "benchmark": _Benchmark,
}


def let_in(client: MlflowClient, runs: Iterable[Run]) -> Iterator[Run]:
    """The runs that are as fedbench writes them; of each other one a warning says once why it is left out."""
    for run in runs:
        if (problem := _problem(run)) is None:
            yield run
        else:
            name = f"run {run.info.run_id} ({show(run.info.run_name)})"
            warn_once(client, f"{name} is left out: {problem}; correct or delete it in MLflow")


def _problem(run: Run) -> str | None:
    tags = {key.removeprefix(PREFIX): text for key, text in run.data.tags.items() if key.startswith(PREFIX)}
    info = {field: getattr(run.info, field) for field in ("status", "start_time", "end_time")}
    kind = tags.get("kind")
    if kind not in KINDS:
        return f"its tag {PREFIX}kind is {show(kind)}"
    try:
        KINDS[kind].model_validate(tags | info | {"metrics": run.data.metrics, "params": run.data.params})
    except ValidationError as error:
        first = error.errors()[0]
        value = show(first["input"])
        match first["loc"]:
            case ("metrics", name, *is_name):
                return f"its metric {show(name)} {'names no client' if is_name else f'is {value}'}"
            case (field,) if field in info:
                return f"its {field} is {value}"
            case (str(field), *_) if field != "params":
                return f"its tag {PREFIX}{field} is {show(tags[field]) if field in tags else 'missing'}"
        return str(first.get("ctx", {}).get("error", f"its parameters: {first['msg']}"))
    return None
