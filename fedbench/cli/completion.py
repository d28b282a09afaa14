"""What the shell completes: suites, scenarios and fields. It must be quick, and executes nobody's code."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from fedbench.util.errors import FedbenchError


def complete_suite(incomplete: str) -> list[str]:
    """The names of suites; after a separator or where none fits, files."""
    from fedbench.suites.files import list_suites

    if names := [name for name in list_suites() if name.startswith(incomplete)]:
        return names
    folder, _, _ = incomplete.rpartition("/")
    found = Path(folder or ".").iterdir() if Path(folder or ".").is_dir() else ()
    paths = [f"{path}/" if path.is_dir() else str(path) for path in found if path.is_dir() or path.suffix == ".yaml"]
    return sorted(path for path in paths if path.startswith(incomplete))


def complete_scenario(context: typer.Context, incomplete: str) -> list[str]:
    """The scenarios of the suite that the command line names."""
    suite = _suite(context)
    scenarios = suite.get("scenarios") if isinstance(suite, dict) else None
    names = [each.get("name") for each in scenarios if isinstance(each, dict)] if isinstance(scenarios, list) else []
    return [name for name in names if isinstance(name, str) and name.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """The scenario fields, each with its ``=``."""
    from fedbench.suites.fields import known_fields

    return [f"{field}=" for field in known_fields() if field.startswith(incomplete)]


def _suite(context: typer.Context) -> Any:
    """The content of the suite's file; None if it cannot be read."""
    from fedbench.suites.files import find_suite
    from fedbench.suites.yaml_loader import read_yaml

    # Before an option without its value, arguments are not sorted into parameters yet.
    name = context.params.get("suite_name") or next(iter(context.args), "")
    with suppress(FedbenchError, OSError):
        return read_yaml(find_suite(name))
    return None
