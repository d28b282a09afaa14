"""Suite files: find one, read it, check it, lay out its grids. A wrong file is one line that names file and field.

A list on a scenario's field is an axis of its grid. A scenario's field replaces the one in `defaults`, and an override
replaces both. Cells are in the order of the product of the axes, in the order in which `CellSpec` declares them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedbench.suites.checks import FIELDS, check_mapping, check_name, check_seeds, check_settings, one_line
from fedbench.suites.conformance_checks import check_conformance
from fedbench.suites.conformance_schema import Reference
from fedbench.suites.schema import Cell, CellSpec, RunSpec, Scenario, Suite, show, unknown
from fedbench.suites.tune_checks import check_tune
from fedbench.suites.yaml_loader import parse_yaml, read_yaml
from fedbench.util.errors import SuiteError

__all__ = [
    "Cell",
    "CellSpec",
    "RunSpec",
    "Scenario",
    "Suite",
    "find_suite",
    "list_suites",
    "load_suite",
    "load_suites",
    "parse_overrides",
    "parse_seeds",
]

MAX_RUNS = 100_000  # a grid beyond that is a slip: weeks of runs, and a store that no page shows
REQUIRED = ("name", "question", "seeds", "scenarios")


def shipped_suites() -> Path:
    """The folder of the suites that come with fedbench: in the package if installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "_suites" if (package / "_suites").is_dir() else package.parent / "suites"


def list_suites() -> dict[str, Path]:
    """Every suite by name: those in ``suites/`` of the working directory, then the shipped ones they do not hide."""
    folders = (shipped_suites(), Path("suites"))
    found = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def load_suites() -> tuple[list[Suite], list[SuiteError]]:
    """Every suite of `list_suites`, and what is wrong with those that cannot be read."""
    suites, wrong = [], []
    for path in list_suites().values():
        try:
            suites.append(load_suite(path))
        except SuiteError as error:
            wrong.append(error)
    return suites, wrong


def find_suite(name_or_path: str | Path) -> Path:
    """Return the file of a suite.

    Parameters
    ----------
    name_or_path
        A path if it holds a separator or ends in ``.yaml`` or ``.yml``; else a name (see `list_suites`).

    Raises
    ------
    SuiteError
        For an unknown name, with the nearest one. A path is not looked at here.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    suites = list_suites()
    if text not in suites:
        raise SuiteError(one_line(f"{unknown('suite', text, suites)}, or give the path of a YAML file"))
    return suites[text]


def load_suite(
    name_or_path: str | Path,
    *,
    overrides: Mapping[str, object] | None = None,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
) -> Suite:
    """Read and check a suite.

    Parameters
    ----------
    name_or_path
        See `find_suite`.
    overrides
        Scenario fields that replace those of every scenario (``--set``); a list is an axis.
    seeds
        Replace the file's.
    only
        Names of the scenarios to keep; all if empty.

    Raises
    ------
    SuiteError
        One line that names the file, the place in it, the value and what to do.
    """
    path = find_suite(name_or_path)
    try:
        return _suite(read_yaml(path), path, dict(overrides or {}), seeds, only)
    except SuiteError as error:
        raise SuiteError(one_line(f"{path}: {error}")) from None


def parse_overrides(settings: Sequence[str]) -> dict[str, object]:
    """Read ``FIELD=VALUE`` settings, values in YAML: ``["rounds=3", "num_clients=[2, 3]"]``.

    Raises
    ------
    SuiteError
        For a setting without ``=``, an unknown field, a field given twice, or a value that is no YAML.
    """
    overrides: dict[str, object] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        try:
            if not equals or not value.strip():
                raise SuiteError(f"{show(setting)} is not FIELD=VALUE, such as rounds=3 or batch_size=null")
            if field not in FIELDS:
                raise SuiteError(unknown("field", field, FIELDS))
            if field in overrides:
                raise SuiteError(f"{field} is given twice; keep one")
            overrides[field] = parse_yaml(value)
        except SuiteError as error:
            raise SuiteError(one_line(f"--set: {error}")) from None
    return overrides


def parse_seeds(text: str) -> list[int]:
    """Read seeds such as ``0,1,2`` or ``0-4`` (both ends included) or ``0-2,7``.

    Raises
    ------
    SuiteError
        For anything else, a repeated seed, or more than `MAX_RUNS` seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,19})\s*(?:-\s*([0-9]{1,19})\s*)?", part)
        if not match:
            raise SuiteError(f"--seeds: {show(text)} is not a list of seeds; write 0,1,2 or 0-4")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise SuiteError(f"--seeds: the range {show(part)} falls; write the smaller seed first, as in 0-4")
        if len(seeds) + last - first >= MAX_RUNS:
            raise SuiteError(f"--seeds: {show(text)} is more than {MAX_RUNS:,} seeds; name fewer")
        seeds.extend(range(first, last + 1))
    return list(check_seeds(seeds, "--seeds"))


def _suite(
    data: object, path: Path, overrides: dict[str, object], seeds: Sequence[int] | None, only: Sequence[str]
) -> Suite:
    if data is None:
        raise SuiteError(f"the file is empty; a suite has {', '.join(REQUIRED)}")
    suite = check_mapping(data, "the file", (*REQUIRED, "defaults", "tune", "conformance"))
    for key in REQUIRED:
        if key not in suite:
            raise SuiteError(f"{key} is missing; a suite has {', '.join(REQUIRED)}")
    name, question = check_name(suite["name"], "name"), suite["question"]
    if not isinstance(question, str) or not question.strip():
        raise SuiteError(f"question is {show(question)}; write the suite's question as a sentence")
    own_seeds = check_seeds(suite["seeds"], "seeds")
    chosen_seeds = own_seeds if seeds is None else check_seeds(list(seeds), "--seeds")
    settings = _scenarios(suite["scenarios"])
    defaults = check_settings(suite.get("defaults", {}), "defaults")
    overrides = check_settings(overrides, "--set")
    tune = check_tune(suite.get("tune"), settings)
    tune = tune.model_copy(update={"set": tuple(item for item in tune.set if item[0] not in overrides)})
    for scenario in only:
        if scenario not in settings:
            raise SuiteError(f"--only: {unknown('scenario', scenario, settings)}")
    merged = {key: defaults | own | overrides for key, own in settings.items() if key in only or not only}
    num_runs = len(chosen_seeds) * sum(
        prod(len(value) for value in fields.values() if isinstance(value, list)) for fields in merged.values()
    )
    if num_runs > MAX_RUNS:
        raise SuiteError(f"{num_runs:,} runs are more than {MAX_RUNS:,}; shorten the grid's lists or the seeds")
    scenarios = tuple(_scenario(name, key, fields, chosen_seeds, overrides) for key, fields in merged.items())
    references: tuple[Reference, ...] = ()
    if suite.get("conformance") is not None:  # it is about the scenarios as the file has them
        own = [_scenario(name, key, defaults | fields, own_seeds, ()) for key, fields in settings.items()]
        references = check_conformance(suite["conformance"], own)
    return Suite(
        name=name,
        question=one_line(question),
        seeds=chosen_seeds,
        scenarios=scenarios,
        path=path,
        tune=tune,
        conformance=references,
    )


def _scenarios(value: object) -> dict[str, dict[str, Any]]:
    """Check the scenarios, each by itself: name -> its own fields."""
    if not isinstance(value, list) or not value:
        raise SuiteError(f"scenarios is {show(value)}; it must be a list of at least one scenario")
    scenarios: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(value, start=1):
        place = f"scenario {position}"
        fields = dict(check_mapping(item, place, ("name", *FIELDS)))
        if "name" not in fields:
            raise SuiteError(f"{place}: name is missing; give it one")
        name = check_name(fields.pop("name"), f"{place}: name")
        if name in scenarios:
            raise SuiteError(f"{place}: the name {name} is there twice; rename one scenario")
        scenarios[name] = check_settings(fields, f"scenario {name}")
    return scenarios


def _scenario(
    suite: str, name: str, fields: dict[str, Any], seeds: tuple[int, ...], overrides: Collection[str]
) -> Scenario:
    """Lay out the grid of a scenario. What was overridden is in the cells' labels, so that they are told apart."""
    lists = {field: fields[field] for field in FIELDS if isinstance(fields.get(field), list)}
    lists |= {field: [fields[field]] for field in overrides if field not in lists}
    axes = tuple(field for field in FIELDS if field in lists)
    cells: dict[CellSpec, Cell] = {}
    for point in product(*(lists[axis] for axis in axes)):
        try:
            spec = CellSpec.model_validate(fields | dict(zip(axes, point, strict=True)))
        except ValidationError as error:
            context = error.errors()[0].get("ctx", {})
            raise SuiteError(f"scenario {name}: {context.get('error', error)}") from None
        if spec in cells:
            raise SuiteError(f"scenario {name}: split null and {spec.split} are the same; keep one")
        cells[spec] = Cell(suite=suite, scenario=name, spec=spec, axes=axes, seeds=seeds)
    return Scenario(name=name, cells=tuple(cells.values()))
