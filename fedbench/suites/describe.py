"""What scenario fields and parts mean, from where they are defined: comments, annotations and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedbench.components import Component

SECTION = r"^(\w[\w ]*)\n-{3,}\n"  # a heading of a NumPy-style docstring


def comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment above each field of a model, also of those that it inherits."""
    found, lines = {}, []
    bases = [each for each in reversed(model.__mro__) if issubclass(each, BaseModel) and each is not BaseModel]
    for line in "\n".join(map(inspect.getsource, bases)).splitlines():
        if comment := re.fullmatch(r" +# ?(.*)", line):
            lines.append(comment[1])
        elif field := re.match(r"    (\w+): ", line):
            found[field[1]] = " ".join(lines)
            lines = []
        else:
            lines = []
    return found


def type_text(field: FieldInfo) -> str:
    """A field's type and bounds, for people."""
    names: dict[Any, str] = {
        int: "whole number",
        float: "number",
        bool: "true or false",
        str: "text",
        type(None): "null",
    }
    kinds: list[str] = []
    bounds = list(field.metadata)

    def visit(hint: Any) -> None:
        if hasattr(hint, "__metadata__"):
            bounds.extend(each for item in hint.__metadata__ for each in getattr(item, "metadata", [item]))
            visit(hint.__origin__)
        elif get_origin(hint) is Literal:
            kinds.extend(f"`{each}`" for each in get_args(hint))
        elif inspect.isclass(hint) and issubclass(hint, StrEnum):
            kinds.extend(f"`{each}`" for each in hint)
        elif get_args(hint) and get_origin(hint) is not tuple:
            for each in get_args(hint):
                visit(each)
        else:
            other = "list" if get_origin(hint) is tuple else str(getattr(hint, "__name__", "any"))
            kinds.append(names.get(hint, other))

    visit(field.annotation)
    named = {name: getattr(each, name) for each in bounds for name in ("gt", "ge", "lt", "le") if hasattr(each, name)}
    low = next((f"{word} {named[name]:g}" for name, word in (("gt", "above"), ("ge", "from")) if name in named), None)
    high = next((f"{word} {named[name]:g}" for name, word in (("lt", "below"), ("le", "up to")) if name in named), None)
    limits = [limit for limit in (low, high) if limit and limit != "up to 1e+09"]  # that one is for slips of the hand
    return " or ".join(dict.fromkeys(kinds)) + (f": {', '.join(limits)}" if limits else "")


def paragraphs(text: str | None) -> list[str]:
    """A docstring's paragraphs before its first section, each on one line."""
    before = re.split(SECTION, inspect.cleandoc(text or ""), maxsplit=1, flags=re.MULTILINE)[0]
    return [" ".join(paragraph.split()) for paragraph in before.split("\n\n") if paragraph.strip()]


def meanings(part: Any) -> dict[str, str]:
    """What the NumPy-style docstring of a class or function says of each parameter or attribute, or that of a base."""
    found: dict[str, str] = {}
    for each in reversed(part.__mro__) if inspect.isclass(part) else [part]:
        found |= _meanings(each.__doc__ or "")
    return found


def option_meanings(part: Component) -> dict[str, str]:
    """What its docstring says of each option of a part; a built-in model, which imports torch, declares it itself."""
    is_declared = part.kind == "model" and part.digest is None
    return {} if is_declared or not part.options.model_fields else meanings(part.load())


def _meanings(text: str) -> dict[str, str]:
    _, *parts = re.split(SECTION, inspect.cleandoc(text), flags=re.MULTILINE)
    found: dict[str, str] = {}
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        if heading in ("Parameters", "Attributes"):
            for item in re.finditer(r"^(\S[^:\n]*).*\n((?:[ \t]+.*(?:\n|\Z)|\n)+)", body, re.MULTILINE):
                found |= dict.fromkeys(re.split(r", *", item[1].strip()), " ".join(item[2].split()))
    return found


def about_built_in(target: str) -> str:
    """What ``module:attribute`` is: the first paragraph of its module's docstring, or of its own among several there.

    The module is not imported, only the packages above it.
    """
    name, _, attribute = target.partition(":")
    spec = find_spec(name)
    tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding="utf-8"))
    parts = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}
    of_several = parts.get(attribute) if len(parts) > 1 else None
    return paragraphs(ast.get_docstring(of_several or tree))[0]
