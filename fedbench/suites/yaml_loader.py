"""Plain, safe YAML: the YAML 1.2 core schema without tags and aliases, so a file can neither run code nor swell."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path
from typing import Any

import yaml

from fedbench.util.errors import SuiteError
from fedbench.util.files import regular

MAX_BYTES = 64_000  # a suite file is a few kilobytes; more is some other file, and half a second to parse
MAX_DEPTH = 20  # a suite file has four levels


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's words and numbers (1e-3 is a number, `no` is text) and distinct keys."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse an alias, a tag and deep nesting; else as PyYAML does."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases (*name) are not read; write the value out, or use `defaults`", event.start_mark)
        tag = getattr(event, "tag", None)
        if tag:
            short = tag.replace("tag:yaml.org,2002:", "!!")[:60]
            raise _refusal(f"the tag {short} is not read; remove it", event.start_mark)
        if self.depth == MAX_DEPTH:
            raise _refusal("nested too deeply; a suite file has four levels", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a repeated key (PyYAML keeps the last one) and a key that is a list or a mapping."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key must be one word", key.start_mark)
            if key.value in seen:
                raise _refusal(f"the key {reprlib.repr(key.value)} is there twice; keep one", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read 010 as ten (PyYAML's reads it as eight)."""
        return int(node.value)


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_yaml_int)
PlainLoader.yaml_implicit_resolvers = {}  # PyYAML's own follow YAML 1.1
for _tag, _pattern, _first in (
    ("null", r"(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
):
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def _refusal(problem: str, mark: Any) -> SuiteError:
    return SuiteError(f"line {mark.line + 1}: {problem}")


def parse_yaml(text: str) -> object:
    """Read one YAML document; a `SuiteError` names the line and what is wrong with it."""
    try:
        return yaml.load(text, Loader=PlainLoader)  # noqa: S506 (PlainLoader is a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise SuiteError(f"{line}{error.problem or error.context}; correct the YAML") from None
    except yaml.reader.ReaderError as error:
        raise SuiteError(f"not text: a control character at position {error.position}") from None
    except (ValueError, OverflowError):
        raise SuiteError(
            "holds a number of thousands of digits or an impossible \\U escape; correct the YAML"
        ) from None


def read_yaml(path: Path) -> object:
    """Read a YAML file of at most `MAX_BYTES` of UTF-8; what is said of a wrong one does not name the file."""
    try:
        with regular(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SuiteError("there is no such file; fedbench suites lists the suites") from None
    except IsADirectoryError:
        raise SuiteError("this is a directory; name a YAML file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise SuiteError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise SuiteError(f"larger than {MAX_BYTES:,} bytes; a suite file is a few kilobytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SuiteError(f"not UTF-8 text (byte {error.start}); a suite is a YAML file") from None
    return parse_yaml(text)
