"""Cells compared with cells: along each axis pairs of cells that differ in it alone, paired by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import fmean
from typing import Any

from fedbench.components import KINDS
from fedbench.measures import Verdict
from fedbench.reports.answers.measured import main_measure, values_by_seed
from fedbench.reports.answers.records import Answer, Pair, Setting
from fedbench.reports.measure import Measure
from fedbench.stats import LEVEL, detectable_difference, holm, interval_of, p_differs, seeds_to_show, spread
from fedbench.suites.contrast import SCENARIO, ContrastMeasure, ContrastSpec
from fedbench.suites.fields import COMMON, in_order
from fedbench.suites.schema import value_text
from fedbench.tracking.records import CellResult

MOST_VALUES = 6  # of an axis that is compared unless the suite says otherwise


@dataclass(frozen=True)
class _Cell:
    """A cell with its fields, laid out once."""

    result: CellResult
    values: Mapping[str, Any]

    @property
    def axes(self) -> list[str]:
        """The axes that it has a value on."""
        return [axis for axis in self.result.cell.axes if axis in self.values]


@dataclass(frozen=True)
class _Placed:
    """A cell's value on an axis, the setting that it belongs to, and its numbers by seed."""

    text: str
    setting: Hashable
    fixed: Mapping[str, str]
    label: str
    by_seed: Mapping[int, float] = field(default_factory=dict)


def answer_all(
    results: Sequence[CellResult], contrast: ContrastSpec | None = None, measure: ContrastMeasure | None = None
) -> tuple[Answer, ...]:
    """Compare a suite's cells along its axes; `measure` replaces that of `contrast`.

    The pairs of a scenario are tested as one family (Holm 1979): those of the averages over settings, and by themselves
    those within the settings.
    """
    contrast = contrast or ContrastSpec()
    scenarios: dict[str, list[_Cell]] = {}
    for each in results:
        scenarios.setdefault(each.cell.scenario, []).append(_Cell(each, each.cell.spec.values))
    families = [[(name, axis, cells) for axis in _axes(cells, contrast.axes)] for name, cells in scenarios.items()]
    if contrast.axes and SCENARIO in contrast.axes:
        families.append([("", SCENARIO, [cell for cells in scenarios.values() for cell in cells])])
    found: list[Answer] = []
    for family in families:
        made = [_compare(*each, measure or contrast.measure, contrast.axes is not None) for each in family]
        found += _judged([each for each in made if each is not None])
    named = len({each.scenario for each in found})
    return tuple(replace(each, num_scenarios=named) for each in found)


def _axes(cells: Sequence[_Cell], chosen: Collection[str] | None) -> list[str]:
    """The axes to compare along: by default all but options, whose values are compared along the axis of their part."""
    axes = in_order(dict.fromkeys(axis for cell in cells for axis in cell.axes))
    if chosen is not None:
        return [axis for axis in axes if axis in chosen]
    options = {option for axis in axes for option in _own_options(axis, cells)}
    return [axis for axis in axes if axis not in options]


def _compare(
    scenario: str, axis: str, cells: Sequence[_Cell], chosen: ContrastMeasure | None, is_chosen: bool
) -> Answer | None:
    """The pairs along an axis, not tested yet; None if no two cells differ in it alone.

    An axis of many values that the suite has not chosen is named only.
    """
    measure = main_measure([cell.result for cell in cells], chosen)
    place = _by_scenario(cells) if axis == SCENARIO else _along(axis, cells)
    if not is_chosen and (count := len({place(cell).text for cell in cells})) > MOST_VALUES:
        return Answer(scenario, axis, measure, (), Setting({}, {}, ()), {}, num_values=count)
    settings: dict[Hashable, list[_Placed]] = {}
    reasons: dict[str, str] = {}
    failed: dict[str, str] = {}
    for cell in cells:
        by_seed, reason = values_by_seed(cell.result, measure)
        placed = place(cell)
        lost = sum(run.verdict is Verdict.FAILED for run in cell.result.results.values())
        if by_seed and lost:
            failed[cell.result.cell.label] = f"{lost} of {len(cell.result.results)} seeds"
        settings.setdefault(placed.setting, []).append(replace(placed, by_seed=by_seed))
        if reason:
            reasons[cell.result.cell.label] = reason
    several = [placed for placed in settings.values() if len(placed) > 1]
    if not several:
        return None
    names = dict.fromkeys(name for placed in several for name in placed[0].fixed)
    varying = [name for name in names if len({placed[0].fixed.get(name) for placed in several}) > 1]
    fixed = [{name: placed[0].fixed[name] for name in varying if name in placed[0].fixed} for placed in several]
    made = tuple(_setting([placed], names) for placed, names in zip(several, fixed, strict=True))
    overall = made[0] if len(made) == 1 else _setting(several, {})
    return Answer(scenario, axis, measure, made, overall, reasons, failed)


def _by_scenario(cells: Sequence[_Cell]) -> Callable[[_Cell], _Placed]:
    """How cells are placed by scenario: an axis that not all scenarios have is part of the value."""
    common = set.intersection(*(set(cell.axes) for cell in cells))

    def place(cell: _Cell) -> _Placed:
        texts = {axis: _text(cell.values[axis]) for axis in cell.axes}
        own = [f"{axis}={text}" for axis, text in texts.items() if axis not in common]
        fixed = {axis: text for axis, text in texts.items() if axis in common}
        scenario, label = cell.result.cell.scenario, cell.result.cell.label
        return _Placed(" ".join([scenario, *own]), tuple(fixed.items()), fixed, label)

    return place


def _along(axis: str, cells: Sequence[_Cell]) -> Callable[[_Cell], _Placed]:
    """How cells are placed along an axis: which value they have, with its own options, and what else must be equal."""
    own = _own_options(axis, cells)

    def place(cell: _Cell) -> _Placed:
        options = [f"{name}={_text(cell.values[name])}" for name in own if name in cell.axes]
        others = {name: value for name, value in cell.values.items() if name != axis and name not in own}
        fixed = {name: _text(others[name]) for name in cell.axes if name in others}
        label = cell.result.cell.label
        setting = (axis in cell.values or label, *others.items())  # an option of another part may not be there
        return _Placed(" ".join([_text(cell.values.get(axis)), *options]), setting, fixed, label)

    return place


def _own_options(axis: str, cells: Sequence[_Cell]) -> list[str]:
    """The options that come and go with the values of a part's axis."""
    if axis not in KINDS:
        return []
    options = dict.fromkeys(name for cell in cells for name in cell.values if name not in COMMON)
    return [name for name in options if _comes_with(name, axis, cells)]


def _comes_with(option: str, axis: str, cells: Iterable[_Cell]) -> bool:
    """Whether the value on an axis decides if a cell has an option."""
    has: dict[Any, set[bool]] = {}
    for cell in cells:
        has.setdefault(cell.values[axis], set()).add(option in cell.values)
    return all(len(each) == 1 for each in has.values()) and len(set.union(*has.values())) == 2


def _text(value: object) -> str:
    return "all" if value is None else value_text(value)


def _setting(settings: Sequence[Sequence[_Placed]], fixed: Mapping[str, str]) -> Setting:
    """The cells of one setting, or their averages over several."""
    by_text = [{each.text: each.by_seed for each in same if each.by_seed} for same in settings]
    named = dict.fromkeys(each.text for same in settings for each in same)
    texts = [text for text in named if any(text in same for same in by_text)]
    complete = [same for same in by_text if len(same) == len(texts)]
    cells = [set(each) for same in complete for each in same.values()]
    seeds = set.intersection(*cells) if cells else ()
    means = {text: fmean(same[text][seed] for same in complete for seed in seeds) for text in texts if seeds}
    pairs = (_pair(*both, [same for same in by_text if set(both) <= same.keys()]) for both in combinations(texts, 2))
    labels = {each.text: each.label for same in settings for each in same} if len(settings) == 1 else {}
    return Setting(fixed, means, tuple(pair for pair in pairs if pair), labels=labels)


def _pair(first: str, second: str, settings: Sequence[Mapping[str, Mapping[int, float]]]) -> Pair | None:
    """Two values, paired by the seeds that all their cells have; None without such a seed."""
    cells = [same[text] for same in settings for text in (first, second)]
    seeds = sorted(set(cells[0]).intersection(*cells[1:])) if cells else []
    if not seeds:
        return None
    by_setting = [[same[second][seed] - same[first][seed] for seed in seeds] for same in settings]
    means = [fmean(each) for each in by_setting]
    return Pair(
        first,
        second,
        tuple(seeds),
        tuple(fmean(each) for each in zip(*by_setting, strict=True)),
        are_all=all(len(each) == len(seeds) for each in cells),
        num_settings=len(settings),
        higher_in=sum(mean > 0 for mean in means),
        lower_in=sum(mean < 0 for mean in means),
    )


def _judged(answers: Sequence[Answer]) -> list[Answer]:
    """The answers of a scenario with what is shown among all their pairs."""
    overall = _tested([each.overall for each in answers], [each.measure for each in answers])
    within = [(setting, each.measure) for each in answers for setting in each.settings if len(each.settings) > 1]
    tested = iter(_tested([setting for setting, _ in within], [measure for _, measure in within]))
    return [
        replace(
            each,
            overall=whole,
            settings=(whole,) if len(each.settings) == 1 else tuple(next(tested) for _ in each.settings),
        )
        for each, whole in zip(answers, overall, strict=True)
    ]


def _tested(settings: Sequence[Setting], measures: Sequence[Measure]) -> list[Setting]:
    pairs = [pair for setting in settings for pair in setting.pairs]
    spreads = [spread(pair.differences) for pair in pairs]
    judged = iter(
        replace(
            pair,
            interval=(interval := interval_of(differences)),
            p_value=p_value,
            num_tests=len(pairs),
            shown=p_value <= LEVEL and (interval is None or not interval[0] <= 0 <= interval[1]),
            detectable=detectable_difference(differences, len(pairs)),
            seeds_needed=seeds_to_show(differences, len(pairs)),
        )
        for pair, differences, p_value in zip(pairs, spreads, holm([p_differs(each) for each in spreads]), strict=True)
    )
    return [
        _ranked(replace(setting, pairs=tuple(next(judged) for _ in setting.pairs)), measure)
        for setting, measure in zip(settings, measures, strict=True)
    ]


def _ranked(setting: Setting, measure: Measure) -> Setting:
    """With the ranks that the comparisons leave open, the best value first."""
    score: dict[str, float] = {}
    better, worse = Counter[str](), Counter[str]()  # how many values are shown to be so
    for pair in setting.pairs:
        ahead = -pair.difference if measure.lower_is_better else pair.difference  # of the second
        for text, value in ((pair.first, -ahead), (pair.second, ahead)):
            score[text] = score.get(text, 0.0) + value
            if pair.shown:
                (better if value < 0 else worse)[text] += 1
    order = sorted(score, key=lambda text: -score[text])
    return replace(setting, ranks={text: (1 + better[text], len(order) - worse[text]) for text in order})
