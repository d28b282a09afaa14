"""What scenario fields and parts are and mean, as the models declare it and the docstrings say."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from fedbench.util.docstrings import paragraphs

Schema = dict[str, Any]
ABOUT = ("description", "default")  # keys that describe a value
TYPES = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "array": "list",
    "null": "null",
}
BOUNDS = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "up to"}
NO_LIMIT = 1_000_000_000  # which is there against typing errors; see `Count`


class _AnyType(GenerateJsonSchema):
    """Pydantic's JSON schema, in which a type that JSON cannot express is any."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        del schema, error_info
        return {}


def field_schemas(model: type[BaseModel]) -> dict[str, Schema]:
    """The JSON schema of each field of a model, with its description and its default."""
    whole = model.model_json_schema(schema_generator=_AnyType)
    definitions = whole.get("$defs", {})
    return {name: _inlined(schema, definitions) for name, schema in whole.get("properties", {}).items()}


def _inlined(schema: Schema, definitions: Schema) -> Schema:
    """A schema with an enumeration in place of a reference to it, and without what says nothing."""
    if reference := schema.get("$ref"):
        schema = definitions[reference.rpartition("/")[2]] | schema
    kept = {key: each for key, each in schema.items() if key not in ("title", "$ref") and each is not None}
    if "anyOf" in kept:
        kept["anyOf"] = [value_of(_inlined(each, definitions)) for each in kept["anyOf"]]
    if "description" in kept:
        kept["description"] = re.sub(r"\bNone\b", "null", " ".join(kept["description"].split()))
    return kept


def value_of(schema: Schema) -> Schema:
    """A schema without what is said about the value."""
    return {key: each for key, each in schema.items() if key not in ABOUT}


def type_text(schema: Schema) -> str:
    """A field's type and bounds, for people."""
    choices = schema.get("anyOf", [schema])
    bounds = {key: each[key] for each in choices for key in BOUNDS if each.get(key, NO_LIMIT) != NO_LIMIT}
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in bounds:
            bounds.pop(inclusive, None)
    limits = ", ".join(f"{word} {bounds[key]:g}" for key, word in BOUNDS.items() if key in bounds)
    kinds = " or ".join(dict.fromkeys(kind for each in choices for kind in _kinds(each)))
    return f"{kinds}: {limits}" if limits else kinds


def _kinds(schema: Schema) -> list[str]:
    if names := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return [f"`{name}`" for name in names]
    return [TYPES.get(schema.get("type", ""), "any")]


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
