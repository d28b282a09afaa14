"""What a function, class or dataclass takes, as a pydantic model: names, types, constraints, defaults, meanings."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import is_dataclass
from inspect import Parameter, signature
from types import SimpleNamespace
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, PydanticSchemaGenerationError, TypeAdapter, create_model

from fedbench.util.docstrings import meanings
from fedbench.util.frozen import Frozen

Scalar = int | float | str | bool | None


class Options(Frozen):
    """The base of the options that a part declares."""

    model_config = ConfigDict(protected_namespaces=())


def declare_options(part: Any, skipped: int = 0, more: Iterable[str] = ()) -> type[Options]:
    """The options of a callable: its parameters without a default, or with a number, text, true, false or None.

    Of a dataclass they are its fields. The first `skipped` parameters are no options; `more` are further ones, if it
    takes any by ``**kwargs``.
    """
    parameters, takes_any = _parameters(part)
    parameters = parameters[skipped:]
    hints = get_type_hints(part, include_extras=True) if is_dataclass(part) else _hints(part, parameters)
    for name, meaning in meanings(part).items():
        hints[name] = Annotated[hints.get(name, Scalar), Field(description=meaning)]
    declared = {
        each.name: (hints.get(each.name, Scalar), ... if each.default is Parameter.empty else each.default)
        for each in parameters
        if each.default is Parameter.empty or _is_option(each.default, hints.get(each.name, Scalar))
    }
    if takes_any:
        declared = dict.fromkeys(more, (Scalar, None)) | declared
    if taken := [name for name in declared if hasattr(Options, name) or name.startswith("_")]:
        raise ValueError(f"an option cannot be called {taken[0]}; rename it")
    return create_model("Options", __base__=Options, **declared)  # type: ignore[call-overload, no-any-return]


def _is_option(default: object, hint: Any) -> bool:
    """Whether a suite can set a parameter: its default is a plain value, and its type one that pydantic knows."""
    with suppress(PydanticSchemaGenerationError):
        TypeAdapter(hint)
        return isinstance(default, Scalar)
    return False


def _parameters(part: Any) -> tuple[list[Parameter], bool]:
    """The named parameters of a callable, and whether it takes any other one."""
    given = signature(part).parameters.values()
    takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in given)
    return [each for each in given if each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)], takes_any


def _hints(part: Any, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """The annotations of a function's options alone: those of its other parameters may need imports that are absent."""
    annotated = {each.name: each.annotation for each in parameters if each.annotation is not Parameter.empty}
    names = vars(sys.modules[part.__module__])
    return get_type_hints(SimpleNamespace(__annotations__=annotated), names, include_extras=True)
