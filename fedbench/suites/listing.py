"""All suites that are there, listed without executing code that nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedbench.components import find
from fedbench.suites.checks import check_name, named_parts, settings_of
from fedbench.suites.files import errors_in, list_suites
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import Suite
from fedbench.suites.yaml_loader import read_yaml
from fedbench.util.errors import SuiteError
from fedbench.util.text import one_line


@dataclass(frozen=True)
class Outline:
    """What is known of a suite without executing the code of its `own` parts."""

    name: str
    question: str
    path: Path
    own: tuple[str, ...]


def load_suites() -> tuple[list[Suite | Outline], list[SuiteError]]:
    """Every suite of `list_suites`, and what is wrong with those that cannot be read.

    Nobody asked for the code of any of them: one with parts that are not built in is an `Outline`.
    """
    suites: list[Suite | Outline] = []
    wrong = []
    for path in list_suites().values():
        try:
            suites.append(_outline(path) or load_suite(path))
        except SuiteError as error:
            wrong.append(error)
    return suites, wrong


def _outline(path: Path) -> Outline | None:
    """The outline of a suite with parts that are not built in; None for another one, or if the file is wrong.

    Raises
    ------
    SuiteError
        If it has such parts, and another one that cannot be found: reading it to its end would execute the former.
    """
    try:
        suite = read_yaml(path)
        name = check_name(suite.get("name") if isinstance(suite, dict) else None, "name")
    except SuiteError:
        return None
    if not isinstance(suite, dict) or "scenarios" not in suite:
        return None
    own, problems = [], []
    for kind, part in dict.fromkeys((kind, part) for kind, part, _ in named_parts(settings_of(suite, None))):
        try:
            own += [part] if find(kind, part, path.parent).digest else []
        except SuiteError as error:
            problems.append(error)
    if own and problems:
        with errors_in(path):
            raise problems[0]
    return Outline(name, one_line(suite.get("question")), path, tuple(own)) if own else None
