"""A table that fits its terminal: text wraps, columns are dropped by priority, rows become blocks. No number is cut."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

GAP = 2  # between two columns
LEAST = 14  # characters of a word that are not split
WORD = re.compile(r"\S+\s*|\s+")
PIECE = re.compile(r"[^=_/]*[=_/]+|[^=_/]+")  # of a word that has to be split; a number has none of these


@dataclass(frozen=True)
class Column:
    """A column and its entries, which may have several lines.

    Attributes
    ----------
    is_text
        Whether entries wrap between words, and in long names; others are one word to the last digit.
    drop
        Where there is no room, columns with the highest number are left out first; those with 0 stay.
    """

    title: str
    entries: Sequence[str | Text]
    is_text: bool = False
    drop: int = 0

    @property
    def lines(self) -> list[str]:
        """The lines of all entries."""
        return [line for entry in self.entries for line in str(entry).split("\n")]

    @property
    def natural(self) -> int:
        """The width at which no entry wraps."""
        return max(map(len, [*self.lines, *self.title.split()]), default=0)

    @property
    def least(self) -> int:
        """The width below which an entry would be cut."""
        if not self.is_text:
            return self.natural
        words = [word for line in (*self.lines, self.title) for word in line.split()]
        pieces = [piece for word in words for piece in PIECE.findall(word)]
        return max(max(map(len, pieces), default=0), min(max(map(len, words), default=0), LEAST))


class Fitted:
    """A table as a renderable of `rich`.

    Parameters
    ----------
    sections
        The rows below which there is a rule.
    """

    def __init__(self, *columns: Column, title: str = "", sections: Collection[int] = ()) -> None:
        self.columns = columns
        self.title = title
        self.sections = sections

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="bold")
        width, kept = options.max_width, list(self.columns)
        while not console.soft_wrap and _total(each.least for each in kept) > width:  # in a pipe there is room
            last = max(kept, key=lambda each: each.drop)
            if last.drop == 0:
                yield from self._blocks(width)
                return
            kept.remove(last)
        widths = _widths(kept, width)
        yield from console.render(self._table(kept, widths), options.update(width=max(width, _total(widths))))
        if dropped := [each.title for each in self.columns if each not in kept]:
            yield Text(f"Left out in {width} columns: {', '.join(dropped)}.", style="dim")

    def _table(self, columns: Sequence[Column], widths: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        for column, width in zip(columns, widths, strict=True):
            title = wrapped(column.title, width)
            table.add_column(title, width=width, no_wrap=True, justify="left" if column.is_text else "right")
        for index, row in enumerate(zip(*(each.entries for each in columns), strict=True)):
            texts = (wrapped(entry, width) for entry, width in zip(row, widths, strict=True))
            table.add_row(*texts, end_section=index in self.sections)
        return table

    def _blocks(self, width: int) -> Iterator[Text]:
        for index, row in enumerate(zip(*(each.entries for each in self.columns), strict=True)):
            if index:
                yield Text("")
            pairs = [(each.title, entry) for each, entry in zip(self.columns, row, strict=True) if str(entry)]
            yield from pair_lines(pairs, width, max(len(each.title) for each in self.columns))


class Pairs:
    """Names with their values, one below the other."""

    def __init__(self, pairs: Iterable[tuple[str, str | Text]]) -> None:
        self.pairs = list(pairs)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from pair_lines(self.pairs, options.max_width, max((len(name) for name, _ in self.pairs), default=0))


def pair_lines(pairs: Sequence[tuple[str, str | Text]], width: int, longest_name: int) -> Iterator[Text]:
    """Each value next to its name; below it if that has more room for it."""
    indent = longest_name + GAP
    for name, value in pairs:
        longest = max(map(len, str(value).split()), default=0)
        has_room = indent + longest <= width and indent <= 0.55 * width
        start = indent if has_room else GAP
        first, *rest = wrapped(value, width - start).split("\n", allow_blank=True)
        head = Text(name.ljust(start) if has_room else f"{name}\n{' ' * start}")
        yield head + first
        for line in rest:
            yield Text(" " * start) + line


def wrapped(entry: str | Text, width: int) -> Text:
    """The entry on lines of at most `width` characters; a longer word is split after ``=``, ``_`` or ``/``."""
    text = entry if isinstance(entry, Text) else Text(entry)
    lines = [part for line in text.split("\n", allow_blank=True) for part in line.divide(_breaks(line.plain, width))]
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)


def _breaks(line: str, width: int) -> list[int]:
    """Where a line is broken."""
    breaks, used, position = [], 0, 0
    for word in WORD.findall(line):
        size = len(word.rstrip())
        if used and used + size > width:
            breaks.append(position)
            used = 0
        for piece in PIECE.findall(word) if size > width else [word]:
            if used and used + len(piece.rstrip()) > width:
                breaks.append(position)
                used = 0
            breaks += range(position + width, position + len(piece.rstrip()), width)  # it is wider than the terminal
            used += len(piece)
            position += len(piece)
    return breaks


def _total(widths: Iterable[int]) -> int:
    every = list(widths)
    return sum(every) + GAP * (len(every) - 1)


def _widths(columns: Sequence[Column], available: int) -> list[int]:
    """The widths of columns: first titles are narrowed, then text, always the widest, until all have room."""
    widths = [max(each.natural, len(each.title)) for each in columns]
    for least in ([each.natural for each in columns], [each.least for each in columns]):
        while _total(widths) > available:
            wide = [index for index, width in enumerate(widths) if width > least[index]]
            if not wide:
                break
            widths[max(wide, key=widths.__getitem__)] -= 1
    return widths
