"""Suite files: find one, read it, check it, lay out its grids. A wrong file is one line that names file and field.

A list on a scenario's field is an axis of its grid. A scenario's field replaces the one in `defaults`, and an override
replaces both. Cells are in the order of the product of the axes, whose order is that of `fedbench.suites.cell`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedbench.suites.cell import CellSpec
from fedbench.suites.checks import (
    Parts,
    cell_error,
    check_mapping,
    check_name,
    check_seeds,
    check_settings,
    settings_of,
)
from fedbench.suites.conformance import Reference, check_conformance
from fedbench.suites.contrast import check_contrast
from fedbench.suites.files import errors_in, find_suite
from fedbench.suites.schema import Cell, Scenario, Suite
from fedbench.suites.tune import check_tune
from fedbench.suites.uses import axes_of, dimensions, grid_size, merge
from fedbench.suites.variants import AT, check_variant
from fedbench.suites.yaml_loader import parse_yaml, read_yaml
from fedbench.util.errors import SuiteError
from fedbench.util.text import one_line, show, unknown

MAX_RUNS = 100_000  # a larger grid is an error: weeks of runs, and a store that no page shows
REQUIRED = ("name", "question", "seeds", "scenarios")


def load_suite(
    name_or_path: str | Path | Mapping[str, object],
    *,
    overrides: Mapping[str, object] | None = None,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    variant: str | None = None,
) -> Suite:
    """Read and check a suite.

    Parameters
    ----------
    name_or_path
        See `find_suite`; or what a YAML file holds as a mapping, whose paths are relative to the working directory.
    overrides
        Scenario fields that replace those of every scenario (``--set``); a list is an axis.
    seeds
        Replace the file's.
    only
        Names of the scenarios to keep; all if empty.
    variant
        Under which name of its own the suite is recorded, as ``NAME@VARIANT``; None: under the file's.

    Raises
    ------
    SuiteError
        One line that names the file, the place in it, the value and what to do.
    """
    path = Path("the suite") if isinstance(name_or_path, Mapping) else find_suite(name_or_path)
    with errors_in(path):
        content = name_or_path if isinstance(name_or_path, Mapping) else read_yaml(path)
        return _suite(content, path, dict(overrides or {}), seeds, only, variant)


def parse_overrides(settings: Sequence[str]) -> dict[str, object]:
    """Read ``FIELD=VALUE`` settings, values in YAML: ``["rounds=3", "num_clients=[2, 3]"]``.

    Raises
    ------
    SuiteError
        For a setting without ``=``, a field given twice, or a value that is no YAML. Loading the suite checks the rest.
    """
    overrides: dict[str, object] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        with errors_in("--set"):
            if not equals or not value.strip():
                raise SuiteError(f"{show(setting)} is not FIELD=VALUE, such as rounds=3 or batch_size=null")
            if field in overrides:
                raise SuiteError(f"{field} is given twice; keep one")
            overrides[field] = parse_yaml(value)
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
    data: object,
    path: Path,
    overrides: dict[str, object],
    seeds: Sequence[int] | None,
    only: Sequence[str],
    variant: str | None,
) -> Suite:
    if data is None:
        raise SuiteError(f"the file is empty; a suite has {', '.join(REQUIRED)}")
    suite = check_mapping(data, "the file", (*REQUIRED, "defaults", "tune", "contrast", "conformance"))
    for key in REQUIRED:
        if key not in suite:
            raise SuiteError(f"{key} is missing; a suite has {', '.join(REQUIRED)}")
    name, question = check_name(suite["name"], "name"), suite["question"]
    if not isinstance(question, str) or not question.strip():
        raise SuiteError(f"question is {show(question)}; write the suite's question as a sentence")
    if variant is not None:
        name = f"{name}{AT}{check_variant(variant, '--variant')}"
    own_seeds = check_seeds(suite["seeds"], "seeds")
    chosen_seeds = own_seeds if seeds is None else check_seeds(list(seeds), "--seeds")
    parts = Parts(path.parent, settings_of(suite, overrides))
    settings = _scenarios(suite["scenarios"], parts)
    defaults = check_settings(suite.get("defaults", {}), "defaults", parts)
    overrides = check_settings(overrides, "--set", parts)
    tune = check_tune(suite.get("tune"), settings, parts)
    tune = tune.model_copy(update={"set": tuple(item for item in tune.set if item[0] not in overrides)})
    own_axes = {axis for own in settings.values() for axis in axes_of(merge((defaults, own)), ())}
    contrast = check_contrast(suite.get("contrast"), own_axes)
    for scenario in only:
        if scenario not in settings:
            raise SuiteError(f"--only: {unknown('scenario', scenario, settings)}")
    merged = {key: merge((defaults, own, overrides)) for key, own in settings.items() if key in only or not only}
    num_runs = len(chosen_seeds) * sum(map(grid_size, merged.values()))
    if num_runs > MAX_RUNS:
        raise SuiteError(f"{num_runs:,} runs are more than {MAX_RUNS:,}; shorten the grid's lists or the seeds")

    def cells_of(key: str, fields: dict[str, Any], overridden: Collection[str] = ()) -> tuple[Cell, ...]:
        axes, specs = _grid(key, fields, overridden, parts)
        cells = tuple(Cell(suite=name, scenario=key, spec=spec, axes=axes, seeds=chosen_seeds) for spec in specs)
        if twins := [label for label, count in Counter(cell.label for cell in cells).items() if count > 1]:
            raise SuiteError(f"scenario {key}: two cells are both called {twins[0]}; give their values fewer digits")
        return cells

    references: tuple[Reference, ...] = ()
    if suite.get("conformance") is not None:  # compares the scenarios of the file, without --set and --only
        specs = {key: [cell.spec for cell in cells_of(key, merge((defaults, own)))] for key, own in settings.items()}
        references = check_conformance(suite["conformance"], specs)
    return Suite(
        name=name,
        question=one_line(question),
        seeds=chosen_seeds,
        scenarios=tuple(Scenario(name=key, cells=cells_of(key, each, overrides)) for key, each in merged.items()),
        path=path,
        tune=tune,
        contrast=contrast,
        conformance=references,
    )


def _scenarios(value: object, parts: Parts) -> dict[str, dict[str, Any]]:
    """Check the scenarios, each by itself: name -> its own fields."""
    if not isinstance(value, list) or not value:
        raise SuiteError(f"scenarios is {show(value)}; it must be a list of at least one scenario")
    scenarios: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(value, start=1):
        place = f"scenario {position}"
        fields = dict(check_mapping(item, place, ("name", *parts.fields)))
        if "name" not in fields:
            raise SuiteError(f"{place}: name is missing; give it one")
        name = check_name(fields.pop("name"), f"{place}: name")
        if name in scenarios:
            raise SuiteError(f"{place}: the name {name} is there twice; rename one scenario")
        scenarios[name] = check_settings(fields, f"scenario {name}", parts)
    return scenarios


def _grid(
    scenario: str, fields: dict[str, Any], overridden: Collection[str], parts: Parts
) -> tuple[tuple[str, ...], list[CellSpec]]:
    """The axes and the cells of a scenario. Overridden fields are axes too, so that labels tell the cells apart."""
    axes, context = axes_of(fields, overridden), {"find": parts.find, "fields": parts.fields}
    cells: dict[CellSpec, None] = {}
    for point in product(*dimensions(fields)):
        values = {field: value for alternative in point for field, value in alternative.items()}
        try:
            spec = CellSpec.model_validate(values, context=context)
        except ValidationError as error:
            raise SuiteError(f"scenario {scenario}: {cell_error(error)}") from None
        if spec in cells:
            lists = [axis for axis in axes if isinstance(fields.get(axis), list)]
            axis = next((axis for axis in lists if None in fields[axis]), axes[0])
            raise SuiteError(f"scenario {scenario}: {axis} null and {spec.get(axis)} are the same; keep one")
        cells[spec] = None
    return axes, list(cells)
