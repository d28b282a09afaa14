"""The JSON schema of suite files, from the models that check them, so that an editor completes and checks a file.

It knows the common fields, the built-in parts with their options, and the names of installed ones. What it cannot know
is left to fedbench: the options of a part of one's own, which may therefore be any, and how fields fit together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fedbench.components import KINDS, Component, built_in_names, built_in_options, installed
from fedbench.suites.checks import NAME
from fedbench.suites.conformance import Reference
from fedbench.suites.contrast import ContrastMeasure, ContrastSpec
from fedbench.suites.describe import about_built_in, comments, option_meanings
from fedbench.suites.fields import CommonFields
from fedbench.suites.loading import REQUIRED
from fedbench.suites.tune import SEARCHABLE, TuneSpec
from fedbench.suites.uses import USE

DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that editors of YAML know
OWN = dict.fromkeys(KINDS, ".:.") | {"dataset": r"[:/\\]|\.npz$|\.py$"}  # what a reference to a part has
ABOUT = ("description", "default")  # keys that describe a value
Schema = dict[str, Any]


def suite_schema(with_installed: bool = True) -> Schema:
    """The schema; without `with_installed` the same on every machine."""
    others = {kind: sorted(installed(kind)) if with_installed else [] for kind in KINDS}
    fields = _fields()
    seeds = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True}
    text = {"type": "string", "pattern": r"\S"}
    scenario = {"allOf": [_ref("settings")], "properties": {"name": _ref("name")}, "required": ["name"]}
    return {
        "$schema": DRAFT,
        "title": "A suite of fedbench",
        "description": "docs/reference/suite-file.md says what each field means.",
        "type": "object",
        "required": list(REQUIRED),
        "additionalProperties": False,
        "properties": {
            "name": _about(_ref("name"), "The suite's name, which is also that of its MLflow experiment."),
            "question": _about(text, "What the suite is to find out, as a sentence; the report shows it."),
            "seeds": _about(seeds, "Each cell is run once for each."),
            "defaults": _about({"oneOf": [_ref("settings"), {"type": "null"}]}, "Fields of every scenario."),
            "scenarios": _about(
                {"type": "array", "items": scenario, "minItems": 1},
                "Named configurations. A list on a field is an axis of the scenario's grid.",
            ),
            "tune": _about(_tune(seeds), "What `fedbench tune` searches."),
            "contrast": _about(_contrast(), "Which cells are compared, and by what."),
            "conformance": _about(_conformance(), "Published results, for `fedbench conformance`."),
        },
        **_other_keys(list(fields), others),
        "definitions": {
            "name": {"type": "string", "pattern": f"^{NAME}$"},
            "scalar": {"type": ["number", "string", "boolean", "null"]},
            "settings": {"type": "object", "properties": fields},
            "options": {"properties": _built_in_options()},
            **{kind: {"anyOf": _parts(kind, others[kind])} for kind in KINDS},
        },
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _about(schema: Schema, text: str) -> Schema:
    """A schema with a description, which draft 7 does not read next to a reference."""
    return {"allOf": [schema], "description": text} if "$ref" in schema else {**schema, "description": text}


def _properties(model: type[BaseModel], about: Mapping[str, str]) -> dict[str, Schema]:
    """Each field of a model as pydantic describes it, with what there is to say about it."""
    whole = model.model_json_schema()
    found = {}
    for name, schema in whole["properties"].items():
        kept = {key: value for key, value in schema.items() if key != "title" and value is not None}
        if reference := kept.pop("$ref", None):
            kept |= {key: whole["$defs"][reference.rpartition("/")[2]][key] for key in ("type", "enum")}
        found[name] = {**kept, "description": about[name].replace("None", "null")} if about.get(name) else kept
    return found


def _value(schema: Schema) -> Schema:
    return {key: each for key, each in schema.items() if key not in ABOUT}


def _without_value(schema: Schema) -> Schema:
    return {key: each for key, each in schema.items() if key in ABOUT}


def _axis(schema: Schema) -> Schema:
    """A value, or a list of values."""
    value = _value(schema)
    choices = value.get("anyOf", [value])
    item = choices[0] if len(choices) == 1 else {"anyOf": choices}
    return {
        **_without_value(schema),
        "anyOf": [*choices, {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}],
    }


def _fields() -> dict[str, Schema]:
    """Every scenario field: the common ones, and after each kind of part the options of the built-in ones.

    A part of one's own may have an option of the same name, which may be any: see `_other_keys`.
    """
    fields: dict[str, Schema] = {}
    for name, schema in _properties(CommonFields, comments(CommonFields)).items():
        fields[name] = _axis(schema)
        if name in KINDS:
            fields[name] = _axis({**_without_value(schema), "anyOf": [_ref(name)]})
            options = {option: _flat_option(name, option) for option in built_in_options(name)}
            fields |= {name: {**_without_value(each), **_axis(_ref("scalar"))} for name, each in options.items()}
    return fields


def _options(kind: str, name: str) -> dict[str, Schema]:
    """The options of a built-in part."""
    part = Component(kind, name, built_in_names(kind)[name])
    if not part.options.model_fields:
        return {}
    return _properties(part.options, option_meanings(part))


def _built_in_options() -> dict[str, Schema]:
    """The values that built-in parts take for their options."""
    return {option: _value(_flat_option(kind, option)) for kind in KINDS for option in built_in_options(kind)}


def _flat_option(kind: str, option: str) -> Schema:
    """An option as a field of its own: as any of the parts that have it takes it; null leaves it out."""
    readers = built_in_options(kind)[option]
    schemas = [_options(kind, name)[option] for name in readers]
    choices: list[Schema] = [{"type": "null"}]
    for value in map(_value, schemas):
        choices += [each for each in value.get("anyOf", [value]) if each not in choices]
    return _axis(
        {"description": f"{schemas[0].get('description', '')} Of {kind} {', '.join(readers)}.", "anyOf": choices}
    )


def _parts(kind: str, others: list[str]) -> list[Schema]:
    """The ways to name a part: a name, a reference, or a mapping of one of these with options."""
    names = built_in_names(kind)
    parts: list[Schema] = [{"const": name, "description": about_built_in(target)} for name, target in names.items()]
    own = [{"type": "string", "pattern": OWN[kind]}, *({"const": name} for name in others)]
    options = {name: _options(kind, name) for name in names}
    without = [name for name in names if not options[name]]
    for same in [[name] for name in names if options[name]] + ([without] if without else []):
        use = {USE: {"enum": same}, **{option: _axis(schema) for option, schema in options[same[0]].items()}}
        parts.append({"type": "object", "properties": use, "required": [USE], "additionalProperties": False})
    use = {USE: {"anyOf": own}}
    parts.append(
        {"type": "object", "properties": use, "required": [USE], "additionalProperties": _axis(_ref("scalar"))}
    )
    return [*parts, *own]


def _other_keys(fields: list[str], others: dict[str, list[str]]) -> Schema:
    """Allow further scenario fields, and other values of options, only where a part of one's own may read them."""

    def names_own(kind: str) -> Schema:
        own = [{"type": "string", "pattern": OWN[kind]}, *({"const": name} for name in others[kind])]
        one = {"anyOf": [*own, {"type": "object", "required": [USE], "properties": {USE: {"anyOf": own}}}]}
        value = {"anyOf": [one, {"type": "array", "contains": one}]}
        return {"required": [kind], "properties": {kind: value}}

    some = {"type": "object", "anyOf": [names_own(kind) for kind in KINDS]}
    places: list[Schema] = [{"required": ["defaults"], "properties": {"defaults": some}}]
    places.append({"required": ["scenarios"], "properties": {"scenarios": {"type": "array", "contains": some}}})
    of_tune = {"type": "object", "required": ["set"], "properties": {"set": some}}
    places.append({"required": ["tune"], "properties": {"tune": of_tune}})
    known: Schema = {"allOf": [_ref("options")], "propertyNames": {"enum": fields}}
    named = known | {"propertyNames": {"enum": ["name", *fields]}}
    closed = {"defaults": known, "scenarios": {"items": named}, "tune": {"properties": {"set": known}}}
    return {"if": {"anyOf": places}, "else": {"properties": closed}}


def _tune(seeds: Schema) -> Schema:
    """The key `tune`."""
    keys = _properties(TuneSpec, comments(TuneSpec))
    about = {key: {"description": schema.get("description", "")} for key, schema in keys.items()}
    common = _properties(CommonFields, comments(CommonFields))
    space = {field: _searched(_value(common[field])) for field in SEARCHABLE}
    null = {"type": "null"}
    keys["scenario"] = {**about["scenario"], "anyOf": [_ref("name"), null]}
    one_value = {"allOf": [_ref("settings")], "additionalProperties": {"not": {"type": "array"}}}
    keys["set"] = {**about["set"], "anyOf": [one_value, null]}
    keys["space"] = {**about["space"], "type": "object", "properties": space, "minProperties": 1}
    keys["space"]["additionalProperties"] = _searched({"type": ["number", "null"]})  # options of parts
    keys["space"]["propertyNames"] = {"not": {"enum": [field for field in common if field not in SEARCHABLE]}}
    for key in ("seeds", "fresh_seeds"):
        keys[key] = {**about[key], "anyOf": [seeds, null]}
    return {"type": ["object", "null"], "properties": keys, "additionalProperties": False}


def _searched(choice: Schema) -> Schema:
    """The values of a searched field: choices, or a range."""
    range_ = {
        "type": "object",
        "properties": {"low": {"type": "number"}, "high": {"type": "number"}, "log": {"type": "boolean"}},
        "required": ["low", "high"],
        "additionalProperties": False,
    }
    return {"oneOf": [{"type": "array", "items": choice, "minItems": 2, "uniqueItems": True}, range_]}


def _contrast() -> Schema:
    """The key `contrast`."""
    about = {key: text.replace("None", "null") for key, text in comments(ContrastSpec).items()}
    names = {"type": ["array", "null"], "items": {"type": "string"}, "uniqueItems": True}
    keys = {
        "axes": _about(names, about["axes"]),
        "measure": _about({"enum": [*map(str, ContrastMeasure), None]}, about["measure"]),
    }
    return {"type": ["object", "null"], "properties": keys, "additionalProperties": False}


def _conformance() -> Schema:
    """The key `conformance`."""
    keys = _properties(Reference, comments(Reference))
    keys.pop("scenario")
    bound = {"type": ["number", "null"]}
    band = {"type": "array", "items": bound, "minItems": 2, "maxItems": 2}
    keys["band"] = {"description": keys["band"].get("description", ""), "anyOf": [band, {"type": "null"}]}
    row = {"type": ["object", "null"], "properties": keys, "additionalProperties": False}
    return {"type": ["object", "null"], "additionalProperties": row}
