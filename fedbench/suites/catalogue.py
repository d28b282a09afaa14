"""The parts that there are: the built-in ones, and those of installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from fedbench.components import GROUP, KINDS, Component, built_in_names, find, installed
from fedbench.datasets.named import DATA
from fedbench.suites.describe import about_built_in, field_schemas, type_text
from fedbench.suites.fields import CommonFields
from fedbench.util.docstrings import paragraphs
from fedbench.util.errors import SuiteError
from fedbench.util.text import unknown


@dataclass(frozen=True)
class Option:
    """An option of a part; `default` is None where it is `required`, or where null is the default."""

    name: str
    type: str
    default: object
    required: bool
    meaning: str


@dataclass(frozen=True)
class Listed:
    """A part as it is listed.

    Attributes
    ----------
    origin
        ``built in``, or the package that offers it with its version, or ``by reference``.
    about
        What it is, in a sentence; empty if its source was not read.
    options
        None if its source was not read.
    """

    kind: str
    name: str
    origin: str
    target: str = ""
    about: str = ""
    options: tuple[Option, ...] | None = None
    problem: str | None = None


def scenario_fields() -> tuple[Option, ...]:
    """The fields that all cells have; the options of parts are fields too."""
    return _options(CommonFields)


def list_parts(kind: str | None = None) -> list[Listed]:
    """All parts, or those of a kind.

    The code of installed packages is imported only if a kind is given; otherwise their parts have no options.
    """
    if kind is not None and kind not in KINDS:
        raise SuiteError(unknown("kind", kind, KINDS))
    listed = [part for each in ([kind] if kind else KINDS) for part in _of_kind(each, with_code=kind is not None)]
    return listed if kind else [*listed, *_of_no_kind()]


def describe_part(kind: str, name: str) -> Listed:
    """One part, also by reference; its code is imported."""
    if kind not in KINDS:
        raise SuiteError(unknown("kind", kind, KINDS))
    return _read(find(kind, name), _origin(kind, name))


def _of_kind(kind: str, with_code: bool) -> Iterator[Listed]:
    if kind == "dataset":
        for form, target in DATA.items():
            yield _read(Component(kind, form, target, data=form), "built in")
    for name in dict.fromkeys([*built_in_names(kind), *installed(kind)]):
        origin = _origin(kind, name)
        try:
            found = find(kind, name)
            if with_code or found.digest is None:
                yield _read(found, origin)
            else:
                yield Listed(kind, name, origin, found.target)
        except SuiteError as error:
            yield Listed(kind, name, origin, problem=str(error))


def _of_no_kind() -> Iterator[Listed]:
    for each in installed():
        kind, dot, name = each.partition(".")
        if not dot or kind not in KINDS:
            text = f"an entry point of {GROUP} is called KIND.NAME; {unknown('kind', kind, KINDS)}"
            yield Listed(kind, name, _origin(kind, name), problem=text)


def _origin(kind: str, name: str) -> str:
    """Where a part comes from."""
    owners = [each.dist for each in installed().get(f"{kind}.{name}", [])]
    packages = [f"{each.name} {each.version}" if each else "an unknown package" for each in owners]
    here = kind in KINDS and name in built_in_names(kind)
    return ", ".join([*(["built in"] if here else []), *packages]) or "by reference"


def _read(part: Component, origin: str) -> Listed:
    """A part with its options; a built-in part without options is not imported."""
    about = about_built_in(part.target) if part.digest is None else next(iter(paragraphs(part.load().__doc__)), "")
    return Listed(part.kind, part.name, origin, part.target, about, _options(part.options))


def _options(declared: type[BaseModel]) -> tuple[Option, ...]:
    schemas = field_schemas(declared)
    return tuple(
        Option(
            name,
            type_text(schemas[name]).replace("`", ""),
            None if field.is_required() else field.default,
            field.is_required(),
            schemas[name].get("description", ""),
        )
        for name, field in declared.model_fields.items()
    )
