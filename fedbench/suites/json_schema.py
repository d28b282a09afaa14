"""The JSON schema of suite files, from the models that check them, so that an editor completes and checks a file.

It knows the common fields, the built-in parts with their options, and the names of installed ones. What it cannot know
is left to fedbench: the options of a part of one's own, which may therefore be any, and how fields fit together.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedbench.components import KINDS, Component, built_in_names, built_in_options, installed
from fedbench.suites.checks import NAME
from fedbench.suites.conformance import Reference
from fedbench.suites.contrast import ContrastSpec
from fedbench.suites.describe import ABOUT, Schema, about_built_in, field_schemas, value_of
from fedbench.suites.fields import CommonFields
from fedbench.suites.loading import REQUIRED
from fedbench.suites.tune import SEARCHABLE, TuneSpec
from fedbench.suites.uses import USE

DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that editors of YAML know
OWN = dict.fromkeys(KINDS, ".:.") | {"dataset": r"[:/\\]|\.npz$|\.py$"}  # what a reference to a part has
Own = Mapping[str, list[Schema]]  # for each kind, the names of parts that are not built in


def suite_schema(with_installed: bool = True) -> Schema:
    """The schema; without `with_installed` the same on every machine."""
    offered = {kind: sorted(installed(kind)) if with_installed else [] for kind in KINDS}
    own = {kind: [{"type": "string", "pattern": OWN[kind]}, *map(_const, offered[kind])] for kind in KINDS}
    fields = _fields()
    options = {option: _flat_option(kind, option) for kind in KINDS for option in built_in_options(kind)}
    scenario = {"allOf": [_ref("settings")], "properties": {"name": _ref("name")}, "required": ["name"]}
    rows = {"type": ["object", "null"], "additionalProperties": _key(field_schemas(Reference), without="scenario")}
    return {
        "$schema": DRAFT,
        "title": "A suite of fedbench",
        "description": "docs/reference/suite-file.md says what each field means.",
        "type": "object",
        "required": list(REQUIRED),
        "additionalProperties": False,
        "properties": {
            "name": _about(_ref("name"), "The suite's name, which is also that of its MLflow experiment."),
            "question": _about(
                {"type": "string", "pattern": r"\S"},
                "What the suite is to find out, as a sentence; the report shows it.",
            ),
            "seeds": _about(field_schemas(TuneSpec)["seeds"]["anyOf"][0], "Each cell is run once for each."),
            "defaults": _about({"oneOf": [_ref("settings"), {"type": "null"}]}, "Fields of every scenario."),
            "scenarios": _about(
                {"type": "array", "items": scenario, "minItems": 1},
                "Named configurations. A list on a field is an axis of the scenario's grid.",
            ),
            "tune": _about(_key(_tune()), "What `fedbench tune` searches."),
            "contrast": _about(_key(field_schemas(ContrastSpec)), "Which cells are compared, and by what."),
            "conformance": _about(rows, "Published results, for `fedbench conformance`."),
        },
        **_other_keys(list(fields), own),
        "definitions": {
            "name": {"type": "string", "pattern": f"^{NAME}$"},
            "scalar": {"type": ["number", "string", "boolean", "null"]},
            "settings": {"type": "object", "properties": fields},
            "options": {"properties": {option: value_of(schema) for option, schema in options.items()}},
            **{kind: {"anyOf": [*_parts(kind, own[kind]), *own[kind]]} for kind in KINDS},
        },
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _const(name: str) -> Schema:
    return {"const": name}


def _about(schema: Schema, text: str) -> Schema:
    """A schema with a description, which draft 7 does not read next to a reference."""
    return {"allOf": [schema], "description": text} if "$ref" in schema else {**schema, "description": text}


def _key(keys: Schema, without: str = "") -> Schema:
    """A key of the file that is a mapping of these keys."""
    properties = {key: schema for key, schema in keys.items() if key != without}
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _as(about: Schema, *choices: Schema) -> Schema:
    """What is said about a value, of one of other schemas."""
    return {**{key: about[key] for key in ABOUT if key in about}, "anyOf": list(choices)}


def _axis(schema: Schema) -> Schema:
    """A value, or a list of values."""
    value = value_of(schema)
    choices = value.get("anyOf", [value])
    item = choices[0] if len(choices) == 1 else {"anyOf": choices}
    return _as(schema, *choices, {"type": "array", "items": item, "minItems": 1, "uniqueItems": True})


def _fields() -> dict[str, Schema]:
    """Every scenario field: the common ones, and after each kind of part the options of the built-in ones.

    A part of one's own may have an option of the same name, which may be any: see `_other_keys`.
    """
    fields: dict[str, Schema] = {}
    for name, schema in field_schemas(CommonFields).items():
        fields[name] = _axis(_as(schema, _ref(name)) if name in KINDS else schema)
        for option in built_in_options(name) if name in KINDS else ():
            fields[option] = _axis(_as(_flat_option(name, option), _ref("scalar")))
    return fields


def _options(kind: str, name: str) -> dict[str, Schema]:
    """The options of a built-in part."""
    return field_schemas(Component(kind, name, built_in_names(kind)[name]).options)


def _flat_option(kind: str, option: str) -> Schema:
    """An option as a field of its own: as any of the parts that have it takes it; null leaves it out."""
    readers = built_in_options(kind)[option]
    schemas = [_options(kind, name)[option] for name in readers]
    choices: list[Schema] = [{"type": "null"}]
    for value in map(value_of, schemas):
        choices += [each for each in value.get("anyOf", [value]) if each not in choices]
    description = f"{schemas[0].get('description', '')} Of {kind} {', '.join(readers)}."
    return _axis({"description": description, "anyOf": choices})


def _parts(kind: str, own: list[Schema]) -> list[Schema]:
    """The built-in parts by name, and any part in a mapping with its options."""
    names = built_in_names(kind)
    parts: list[Schema] = [{**_const(name), "description": about_built_in(target)} for name, target in names.items()]
    options = {name: _options(kind, name) for name in names}
    without = [name for name in names if not options[name]]
    for same in [[name] for name in names if options[name]] + ([without] if without else []):
        use = {USE: {"enum": same}, **{option: _axis(schema) for option, schema in options[same[0]].items()}}
        parts.append({"type": "object", "properties": use, "required": [USE], "additionalProperties": False})
    return [*parts, {**_use(own), "additionalProperties": _axis(_ref("scalar"))}]


def _use(own: list[Schema]) -> Schema:
    """A mapping that names a part that is not built in."""
    return {"type": "object", "required": [USE], "properties": {USE: {"anyOf": own}}}


def _other_keys(fields: list[str], own: Own) -> Schema:
    """Allow further scenario fields, and other values of options, only where a part of one's own may read them."""

    def names_own(kind: str) -> Schema:
        one = {"anyOf": [*own[kind], _use(own[kind])]}
        return place(kind, {"anyOf": [one, {"type": "array", "contains": one}]})

    def place(key: str, schema: Schema) -> Schema:
        return {"required": [key], "properties": {key: schema}}

    some = {"type": "object", "anyOf": [names_own(kind) for kind in KINDS]}
    places = [
        place("defaults", some),
        place("scenarios", {"type": "array", "contains": some}),
        place("tune", {"type": "object", **place("set", some)}),
    ]
    known: Schema = {"allOf": [_ref("options")], "propertyNames": {"enum": fields}}
    named = known | {"propertyNames": {"enum": ["name", *fields]}}
    closed = {"defaults": known, "scenarios": {"items": named}, "tune": {"properties": {"set": known}}}
    return {"if": {"anyOf": places}, "else": {"properties": closed}}


def _tune() -> dict[str, Schema]:
    """The keys of `tune`."""
    keys, common = field_schemas(TuneSpec), field_schemas(CommonFields)
    one_value = {"allOf": [_ref("settings")], "additionalProperties": {"not": {"type": "array"}}}
    space: Schema = {
        "type": "object",
        "properties": {field: _searched(value_of(common[field])) for field in SEARCHABLE},
        "minProperties": 1,
        "additionalProperties": _searched({"type": ["number", "null"]}),  # options of parts
        "propertyNames": {"not": {"enum": [field for field in common if field not in SEARCHABLE]}},
    }
    chosen: dict[str, Schema] = {"set": {"anyOf": [one_value, {"type": "null"}]}, "space": space}
    return keys | {key: _about(schema, keys[key]["description"]) for key, schema in chosen.items()}


def _searched(choice: Schema) -> Schema:
    """The values of a searched field: choices, or a range."""
    range_ = {
        "type": "object",
        "properties": {"low": {"type": "number"}, "high": {"type": "number"}, "log": {"type": "boolean"}},
        "required": ["low", "high"],
        "additionalProperties": False,
    }
    return {"oneOf": [{"type": "array", "items": choice, "minItems": 2, "uniqueItems": True}, range_]}
