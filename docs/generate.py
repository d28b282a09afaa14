"""Fill the reference pages in from the code: a hook of mkdocs.

A page asks for a table by a comment such as ``<!-- generated: fields -->``; the function of that name below writes it.
Descriptions come from where the thing is defined: comments above a field, docstrings, the help of an option.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel

from fedbench.suites.describe import field_schemas, type_text
from fedbench.util.docstrings import paragraphs

ROOT = Path(__file__).parents[1]
DIRECTIVE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each directive of a page; called by mkdocs."""
    return DIRECTIVE.sub(lambda found: globals()[found[1]](), markdown)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def shown(value: object) -> str:
    """A default as a suite file has it."""
    if value is None:
        return "null"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# The suite file


def described(model: type[BaseModel]) -> str:
    """A table of a model's fields."""
    schemas = field_schemas(model)
    rows = (
        (
            f"`{name}`",
            type_text(schemas[name]),
            "required" if field.is_required() else shown(field.get_default(call_default_factory=True)),
            schemas[name]["description"],
        )
        for name, field in model.model_fields.items()
    )
    return table(("field", "takes", "default", "meaning"), rows)


def fields() -> str:
    """The fields of a scenario."""
    from fedbench.suites.fields import CommonFields

    return described(CommonFields)


def tune_fields() -> str:
    """The key `tune`."""
    from fedbench.suites.schema import Suite

    return described(Suite.model_fields["tune"].annotation)


def contrast_fields() -> str:
    """The key `contrast`."""
    from fedbench.suites.schema import Suite

    return described(Suite.model_fields["contrast"].annotation)


def conformance_fields() -> str:
    """The key `conformance`: what is said of each scenario."""
    from fedbench.suites.schema import Suite

    return described(get_args(Suite.model_fields["conformance"].annotation)[0])


def shipped_suites() -> str:
    """The suites that come with fedbench."""
    from fedbench.suites.files import shipped_suites as folder
    from fedbench.suites.loading import load_suite

    suites = [load_suite(path) for path in sorted(folder().glob("*.yaml"))]
    rows = (
        (
            f"`{suite.name}`",
            ", ".join(sorted({f"`{cell.spec.dataset}`" for cell in suite.cells})),
            str(len(suite.runs)),
            suite.question,
        )
        for suite in suites
    )
    return table(("suite", "dataset", "runs", "question"), rows)


def run_parameters() -> str:
    """The parameters of a run in MLflow."""
    from fedbench.suites.schema import Cell

    fields = Cell.model_fields["spec"].annotation.model_fields
    names = ("seed", *(name for name, field in fields.items() if not field.exclude))
    return ", ".join(f"`{name}`" for name in names) + ", and the options of its parts."


# The parts


def described_part(kind: str) -> str:
    """A table of the built-in parts of a kind: what each does, and its options with their defaults."""
    from fedbench.components import built_in_names, find
    from fedbench.suites.catalogue import describe_part

    rows = []
    for name in built_in_names(kind):
        text = " ".join([describe_part(kind, name).about, *paragraphs(find(kind, name).load().__doc__)])
        rows.append((f"`{name}`", text, options_text(kind, name)))
    return table(("name", "what it does", "options (default)"), rows)


def options_text(kind: str, name: str) -> str:
    """The options of a built-in part, with their defaults."""
    from fedbench.suites.catalogue import describe_part

    by_meaning: dict[str, list[str]] = {}
    for option in describe_part(kind, name).options:
        default = "required" if option.required else shown(option.default)
        by_meaning.setdefault(option.meaning, []).append(f"`{option.name}` ({default})")
    return "<br>".join(", ".join(names) + (f": {meaning}" if meaning else "") for meaning, names in by_meaning.items())


def datasets() -> str:
    """The built-in datasets."""
    from fedbench.datasets import DATASETS, dataset_info

    rows = []
    for name in DATASETS:
        info = dataset_info(name)
        for split, (train, test) in info.sizes.items():
            default = " (default)" if split == info.default_split and len(info.sizes) > 1 else ""
            images = (str(info.num_classes), "x".join(map(str, info.image_shape)), info.licence)
            rows.append((f"`{name}`", f"`{split}`{default}", f"{train:,}", f"{test:,}", *images))
    return table(("name", "split", "training", "test", "classes", "images", "licence"), rows)


def torchvision_datasets() -> str:
    """The datasets of torchvision that a suite can name."""
    from fedbench.datasets.torchvision_sets import SETS

    return ", ".join(f"`{name}`" for name in SETS) + "."


def models() -> str:
    """The built-in models."""
    from fedbench.models import MODELS, build_model

    def row(name: str) -> tuple[str, ...]:
        info, model = MODELS[name], build_model(name)
        size = sum(each.numel() for each in model.parameters())
        shape = "x".join(map(str, info.image_shape))
        about = paragraphs(type(model).__doc__)[0]
        return f"`{name}`", shape, str(info.num_classes), f"{size:,}", about, options_text("model", name)

    return table(("name", "images", "classes", "parameters", "what it is", "options (default)"), map(row, MODELS))


def partitions() -> str:
    """The built-in partitions."""
    return described_part("partition")


def algorithms() -> str:
    """The built-in algorithms."""
    return described_part("algorithm")


def optimisers() -> str:
    """The built-in optimisers."""
    return described_part("optimiser")


def augmentations() -> str:
    """The built-in augmentations."""
    return described_part("augmentation")


def aggregations() -> str:
    """The built-in aggregations."""
    return described_part("aggregation")


# The code


def layers() -> str:
    """The layers of the package, as import-linter checks them."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (found,) = (each["layers"] for each in linter["contracts"] if each["type"] == "layers")
    return "\n".join(["```text", *found, "```"])


# The benchmarks


def benchmarks() -> str:
    """The timing benchmarks and what one call of each is."""
    from fedbench.bench.workloads import WORKLOADS

    rows: dict[tuple[str, str, str], list[str]] = {}
    for work in WORKLOADS:
        name, _, params = work.name.rstrip("]").partition("[")
        about = paragraphs(getattr(work.make, "func", work.make).__doc__)[0]
        rows.setdefault((work.group, f"`{name}`", about), []).append(params)
    return table(
        ("group", "benchmark", "what one call is", "parameters"),
        ((*row, ", ".join(given)) for row, given in rows.items()),
    )


# The command line


def commands() -> str:
    """Each command with its arguments and options."""
    from fedbench.cli.app import app

    return "\n".join(_pages(typer.main.get_command(app), "fedbench"))


def _pages(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    for child, each in children.items():
        yield from _pages(each, f"{name} {child}")
    if children:
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join([name, *(each.metavar or each.name.upper() for each in arguments), "[OPTIONS]"])
    yield f"## `{name}`\n\n{inspect.cleandoc(command.help or '')}\n\n```text\n{usage}\n```\n"
    rows = [(f"`{each.metavar or each.name.upper()}`", "", each.help or "") for each in arguments]
    rows += [(_option(each), _default(each), each.help or "") for each in options]
    yield table(("argument or option", "default", "meaning"), rows) + "\n"
    if command.epilog:
        yield f"{command.epilog.partition(':')[0]}: `{command.epilog.partition(':')[2].strip()}`\n"


def _option(option: Any) -> str:
    names = "/".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return f"`{names}`"
    hint = option.type_descriptor.annotation
    kinds = {int: "N", float: "NUMBER", Path: "PATH"}
    value = "|".join(get_args(hint)) if get_origin(hint) is Literal else kinds.get(hint, "TEXT")
    return f"`{names} {option.metavar or value}`"


def _default(option: Any) -> str:
    return "" if option.default is None or option.is_flag or not option.show_default else shown(option.default)
