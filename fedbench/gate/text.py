"""What a check has to say, as text: rows, notes and words that the table, Markdown and JUnit have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fedbench.gate.checks import (
    MEANINGS,
    AccuracyCheck,
    BenchmarkCheck,
    CellCheck,
    Gate,
    Judgement,
    SpeedCheck,
    benchmark_failure,
    cell_failure,
)
from fedbench.gate.statistics import LEVEL, POWER
from fedbench.reports.benchmarks import duration
from fedbench.stats import CONFIDENCE, Spread
from fedbench.util.commits import short_commit

SPEED_WORDS = {Judgement.WORSE: "slower", Judgement.BETTER: "faster", Judgement.NOT_WORSE: "not slower"}
SPEED_MEANINGS = {
    Judgement.WORSE: "shown to take more than {threshold:.2f} times as long",
    Judgement.BETTER: "shown to take less than 1/{threshold:.2f} times as long",
    Judgement.NOT_WORSE: "shown not to take more than {threshold:.2f} times as long",
    Judgement.CANNOT_TELL: "none of these can be shown",
}


@dataclass(frozen=True)
class Rows:
    """A table. The first column is a name.

    Attributes
    ----------
    columns
        Their names.
    entries
        Each row's texts.
    judgements
        Each row's.
    failed
        Whether each row fails the check.
    """

    columns: tuple[str, ...]
    entries: tuple[tuple[str, ...], ...]
    judgements: tuple[Judgement, ...]
    failed: tuple[bool, ...]

    @property
    def judgement_column(self) -> int | None:
        """Which column the judgement is in; None in a table without."""
        return self.columns.index("judgement") if "judgement" in self.columns else None


def without_empty_columns(rows: Rows) -> Rows:
    """The same without the columns in which nothing is, if there are rows at all."""
    if not rows.entries:
        return rows
    kept = [index for index in range(len(rows.columns)) if any(entry[index] for entry in rows.entries)]
    entries = tuple(tuple(entry[index] for index in kept) for entry in rows.entries)
    return replace(rows, columns=tuple(rows.columns[index] for index in kept), entries=entries)


def accuracy_rows(accuracy: AccuracyCheck, is_strict: bool) -> Rows:
    """A row for each cell: percent, and points of difference."""
    entries = tuple(
        (
            each.cell.label,
            _percent(each.baseline),
            _percent(each.now),
            _points(each.difference),
            "" if each.interval is None else " to ".join(map(_points, each.interval)),
            cell_judgement(each),
            "" if each.least_effect is None else f"{100 * each.least_effect:.1f}",
        )
        for each in accuracy.cells
    )
    columns = ("cell", "baseline", "now", "change", f"{_share(CONFIDENCE)} interval", "judgement", "least effect")
    failed = tuple(cell_failure(each, is_strict) is not None for each in accuracy.cells)
    return without_empty_columns(Rows(columns, entries, tuple(each.judgement for each in accuracy.cells), failed))


def speed_rows(speed: SpeedCheck, is_strict: bool) -> Rows:
    """A row for each benchmark."""
    entries = tuple(
        (
            each.name,
            _time(each.before, speed.unit),
            _time(each.now, speed.unit),
            f"{each.ratio:.2f}" if math.isfinite(each.ratio) else "",
            "" if each.interval is None else f"{each.interval[0]:.2f} to {each.interval[1]:.2f}",
            str(each.samples) if each.samples else "",
            benchmark_judgement(each),
        )
        for each in speed.benchmarks
    )
    columns = ("benchmark", "before", "now", "ratio", "interval", "samples", "judgement")
    failed = tuple(benchmark_failure(each, is_strict) is not None for each in speed.benchmarks)
    return without_empty_columns(Rows(columns, entries, tuple(each.judgement for each in speed.benchmarks), failed))


def power_rows(accuracy: AccuracyCheck) -> Rows:
    """A row for each cell: how many seeds there are, and how many would be needed."""
    entries = tuple(
        (
            each.cell.label,
            str(len(each.now.values)),
            "" if each.baseline.std is None else f"{100 * each.baseline.std:.1f}",
            _count(each.seeds_needed),
            _count(each.fresh_seeds_needed),
        )
        for each in accuracy.cells
    )
    columns = ("cell", "seeds now", "deviation", "known seeds", "new seeds")
    cells = accuracy.cells
    return Rows(columns, entries, tuple(each.judgement for each in cells), tuple(False for _ in cells))


def cell_judgement(check: CellCheck) -> str:
    """The judgement and that bits changed; where, is in a note."""
    return f"{check.judgement}, bits changed" if check.changed else str(check.judgement)


def benchmark_judgement(check: BenchmarkCheck) -> str:
    """The judgement in words of time."""
    if check.judgement is Judgement.WORSE and not math.isfinite(check.ratio):
        return "fails"
    return SPEED_WORDS.get(check.judgement, str(check.judgement))


def accuracy_notes(accuracy: AccuracyCheck) -> list[str]:
    """What a reader of the cells' table must know."""
    has_effects = any(each.least_effect is not None for each in accuracy.cells)
    return [
        f"{accuracy.metric} in percent, mean ± standard deviation over seeds; changes in points, each interval by "
        "itself.",
        f"Margin: {_margin(accuracy)}. Baseline: {_commit(accuracy.baseline_commit)}.",
        _environment(accuracy),
        *(f"{each.cell.label}: {each.reason}." for each in accuracy.cells if each.reason),
        *(f"{each.cell.label}: bits changed in {each.changed}." for each in accuracy.cells if each.changed),
        *_meanings(accuracy),
        *(
            [f"Least effect: the true drop in points that would be found worse in {_share(POWER)} of cases."]
            * has_effects
        ),
    ]


def _environment(accuracy: AccuracyCheck) -> str:
    if accuracy.compares_bits:
        return "The environment is the baseline's: every bit of the seeds that both have is compared."
    if not accuracy.other_environment:
        return "The environment is the baseline's, but bits are not compared."
    return f"The environment is not the baseline's, so bits are not compared: {'; '.join(accuracy.other_environment)}."


def _meanings(accuracy: AccuracyCheck) -> list[str]:
    present = {each.judgement for each in accuracy.cells}
    lines = [f"{judgement}: {meaning}." for judgement, meaning in MEANINGS.items() if judgement in present]
    if present - {Judgement.SAME, Judgement.CANNOT_TELL}:
        lines.append(
            f"What is shown is shown for all cells at once, with a chance of error of {_share(LEVEL)} at most."
        )
    return lines


def speed_notes(speed: SpeedCheck) -> list[str]:
    """What a reader of the benchmarks' table must know."""
    unit = "median times of a call" if speed.unit == "seconds" else "times as multiples of the machine's yardstick"
    present = {each.judgement for each in speed.benchmarks if benchmark_judgement(each) != "fails"}
    meanings = (
        f"{SPEED_WORDS.get(judgement, str(judgement))}: {meaning.format(threshold=speed.threshold)}."
        for judgement, meaning in SPEED_MEANINGS.items()
        if judgement in present
    )
    intervals = (
        "; the intervals are for all benchmarks at once" if any(each.interval for each in speed.benchmarks) else ""
    )
    commit = f" ({_commit(speed.against_commit)})" if speed.against_commit else ""
    return [
        f"Against {speed.against}{commit}: {unit}. Ratio: now over before, 1.10 is 10 % slower{intervals}.",
        f"{speed.machine}; measured for {duration(speed.seconds)}.",
        *(f"{each.name}: {each.reason}." for each in speed.benchmarks if each.reason),
        *meanings,
    ]


def power_note(accuracy: AccuracyCheck) -> str:
    """What the table of the seeds that are needed says."""
    return (
        f"Seeds that would show, in {_share(POWER)} of cases, that an unchanged cell differs by less than "
        f"{_margin(accuracy)}: of those that the baseline has (known), which are compared pair by pair, and of "
        "others. Deviation: over seeds, in points. Empty: the scatter is not known, or they are too many."
    )


def strict_note(gate: Gate) -> list[str]:
    """What fails a strict check, if this is one."""
    if not gate.is_strict:
        return []
    return ["Strict: what cannot be told fails too, and so does what is better: that asks for a new baseline."]


def title_of(gate: Gate) -> str:
    """What was checked: the suite, the speed, or both."""
    parts = [gate.accuracy.suite] if gate.accuracy else []
    return " and ".join([*parts, *(["speed"] if gate.speed else [])])


def on_one_line(text: str) -> str:
    """A text without line breaks and control characters, such as an error from elsewhere may have."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _margin(accuracy: AccuracyCheck) -> str:
    text = f"{100 * accuracy.margin:g}"
    return f"{text} point{'' if text == '1' else 's'}"


def _commit(name: str) -> str:
    return f"commit {short_commit(name)}" if name and name != "none" else "of no known commit"


def _percent(spread: Spread) -> str:
    if not math.isfinite(spread.mean):
        return "none"
    return f"{100 * spread.mean:.1f}" + ("" if spread.std is None else f" ± {100 * spread.std:.1f}")


def _points(value: float) -> str:
    """Points with their sign; what is rounded to zero has none, lest 0 look like a change."""
    text = f"{100 * value:+.1f}" if math.isfinite(value) else ""
    return "0.0" if text in ("+0.0", "-0.0") else text


def _time(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return ""
    return duration(value) if unit == "seconds" else f"{value:.2f}x"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
