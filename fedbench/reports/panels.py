"""What the cells of a suite differ in, and how they are dealt to the panels of a figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from fedbench.reports.figure import HIGH, LOW, VALUES
from fedbench.reports.layout import field_text
from fedbench.tracking.records import StoredCell

RESERVED = ("panel", "seeds", "shown", LOW, HIGH, VALUES)  # an option of a user's own part may have such a name
MAX_LINES = 8  # in one panel: as many as there are colours
T = TypeVar("T")
Panel = tuple[str, list[tuple[str, StoredCell]]]  # its title, and its cells by what they differ in


def grouped(cells: Iterable[StoredCell], key: Callable[[StoredCell], str]) -> dict[str, list[StoredCell]]:
    """The cells by a text."""
    groups: dict[str, list[StoredCell]] = defaultdict(list)
    for cell in cells:
        groups[key(cell)].append(cell)
    return groups


def by_scenario(cells: Iterable[StoredCell]) -> dict[str, list[StoredCell]]:
    """The cells by their scenario."""
    return grouped(cells, lambda cell: cell.scenario)


def varying(cells: Sequence[StoredCell]) -> list[str]:
    """The axes on which cells of one scenario differ."""
    axes = dict.fromkeys(axis for cell in cells for axis in cell.result.cell.axes)
    return [axis for axis in axes if len({cell.spec.get(axis) for cell in cells}) > 1]


def axis_words(axis: str) -> str:
    """An axis as text, which is no column that figures have anyway."""
    words = axis.replace("_", " ")
    return f"{words} (field)" if words in RESERVED else words


def shown(cell: StoredCell, axis: str) -> str:
    """A cell's value on an axis as text."""
    return field_text(cell.spec, axis, none="none")


def describe(cell: StoredCell, axes: Sequence[str]) -> str:
    """``num clients 2, init shared``, without options of a part that the cell does not have."""
    return ", ".join(f"{axis_words(axis)} {shown(cell, axis)}" for axis in axes if cell.spec.has(axis))


def in_order(cells: Iterable[StoredCell], axes: Sequence[str]) -> list[StoredCell]:
    """Sorted by the values on the axes: numbers by size, then "all"; text stays in the suite's order."""

    def place(cell: StoredCell) -> list[tuple[bool, float]]:
        values = [cell.spec.get(axis) for axis in axes]
        return [(value is None, value if isinstance(value, int | float) else 0) for value in values]

    return sorted(cells, key=place)


def panels_of(cells: Sequence[StoredCell]) -> Iterator[Panel]:
    """Panels with few enough cells to tell them apart."""
    for scenario, same in by_scenario(cells).items():
        axes = varying(same)
        alone = len({cell.spec.get(axis) for cell in same for axis in axes[:1]}) == len(same)  # each cell in a panel
        for depth in range(int(len(axes) > 1 and not alone), max(len(axes), 1)):  # so many axes set panels apart
            groups = grouped(in_order(same, axes), partial(describe, axes=axes[:depth]))
            if max(map(len, groups.values())) <= MAX_LINES:
                break
        for words, some in groups.items():
            title = f"{scenario}: {words}" if words else scenario
            for heading, few in numbered(title, some):
                yield heading, [(describe(cell, axes[depth:]) or cell.scenario, cell) for cell in few]


def numbered(title: str, items: Sequence[T]) -> Iterator[tuple[str, Sequence[T]]]:
    """Parts of few enough items to tell them apart, with their titles: ``title (1 of 2)``."""
    parts = [items[start : start + MAX_LINES] for start in range(0, len(items), MAX_LINES)]
    for part, few in enumerate(parts, start=1):
        yield f"{title} ({part} of {len(parts)})" if len(parts) > 1 else title, few
