"""A check as text: the rows and notes that the terminal, Markdown and JUnit share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedbench.gate.checks import MEANINGS, AccuracyCheck, BenchmarkCheck, CellCheck, Gate, Judgement, SpeedCheck
from fedbench.gate.power import POWER
from fedbench.reports.layout import over_seeds
from fedbench.stats import CONFIDENCE, LEVEL, Spread
from fedbench.util.commits import short_commit
from fedbench.util.text import duration

SPEED_WORDS = {Judgement.WORSE: "slower", Judgement.BETTER: "faster", Judgement.NOT_WORSE: "not slower"}
SPEED_MEANINGS = {
    Judgement.WORSE: "shown to take more than {threshold:.2f} times as long",
    Judgement.BETTER: "shown to take less than 1/{threshold:.2f} times as long",
    Judgement.NOT_WORSE: "shown not to take more than {threshold:.2f} times as long",
    Judgement.INCONCLUSIVE: "none of these can be shown",
}


@dataclass(frozen=True)
class Rows:
    """A table: the names of its columns, and each row's texts, judgement, and whether it fails the check."""

    columns: tuple[str, ...]
    entries: tuple[tuple[str, ...], ...]
    judgements: tuple[Judgement, ...]
    failed: tuple[bool, ...]

    @property
    def judgement_column(self) -> int | None:
        """The index of the column of judgements; None in a table without."""
        return self.columns.index("judgement") if "judgement" in self.columns else None

    @property
    def lines(self) -> list[str]:
        """Each row as text: ``baseline 86.2, now 84.1, change -2.1, ...``."""
        return [
            ", ".join(f"{name} {text}" for name, text in zip(self.columns[1:], entry[1:], strict=True) if text)
            for entry in self.entries
        ]


def _rows(
    columns: Sequence[str], entries: Sequence[Sequence[str]], checks: Sequence[CellCheck | BenchmarkCheck], strict: bool
) -> Rows:
    """The table without its empty columns."""
    kept = [index for index in range(len(columns)) if not entries or any(entry[index] for entry in entries)]
    return Rows(
        tuple(columns[index] for index in kept),
        tuple(tuple(entry[index] for index in kept) for entry in entries),
        tuple(each.judgement for each in checks),
        tuple(each.failure(strict) is not None for each in checks),
    )


def accuracy_rows(accuracy: AccuracyCheck, is_strict: bool) -> Rows:
    """A row for each cell: percent, and points of difference."""
    columns = ("cell", "baseline", "now", "change", f"{_share(CONFIDENCE)} interval", "judgement", "MDE")
    entries = [
        (
            each.cell.label,
            _percent(each.baseline),
            _percent(each.now),
            _points(each.difference),
            "" if each.interval is None else " to ".join(filter(None, map(_points, each.interval))),
            cell_judgement(each),
            _effect(each),
        )
        for each in accuracy.cells
    ]
    return _rows(columns, entries, accuracy.cells, is_strict)


def speed_rows(speed: SpeedCheck, is_strict: bool) -> Rows:
    """A row for each benchmark."""
    columns = ("benchmark", "before", "now", "ratio", "interval", "samples", "judgement")
    entries = [
        (
            each.name,
            _time(each.before),
            _time(each.now),
            f"{each.ratio:.2f}" if math.isfinite(each.ratio) else "",
            "" if each.interval is None else f"{each.interval[0]:.2f} to {each.interval[1]:.2f}",
            str(each.samples) if each.samples else "",
            benchmark_judgement(each),
        )
        for each in speed.benchmarks
    ]
    return _rows(columns, entries, speed.benchmarks, is_strict)


def power_rows(accuracy: AccuracyCheck) -> Rows:
    """A row for each cell: how many seeds there are, and how many would be needed."""
    entries = tuple(
        (
            each.cell.label,
            str(len(each.now.values)),
            "" if each.baseline.std is None else f"{100 * each.baseline.std:.1f}",
            _count(each.seeds_needed),
            "impossible" if each.baseline_seeds_needed else _count(each.fresh_seeds_needed),
        )
        for each in accuracy.cells
    )
    judgements = tuple(each.judgement for each in accuracy.cells)
    return Rows(
        ("cell", "seeds now", "deviation", "known seeds", "new seeds"), entries, judgements, (False,) * len(entries)
    )


def cell_judgement(check: CellCheck) -> str:
    """The judgement, and whether bits changed; a note says where."""
    return f"{check.judgement}, bits changed" if check.changed else str(check.judgement)


def benchmark_judgement(check: BenchmarkCheck) -> str:
    """The judgement, in terms of time."""
    if check.judgement is Judgement.WORSE and not math.isfinite(check.ratio):
        return "fails"
    return SPEED_WORDS.get(check.judgement, str(check.judgement))


def accuracy_notes(accuracy: AccuracyCheck) -> list[str]:
    """What a reader of the cells' table must know."""
    counts = [len(side.values) for each in accuracy.cells for side in (each.baseline, each.now)]
    has_effects = any(each.detectable_effect is not None for each in accuracy.cells)
    return [
        f"{accuracy.metric} in percent, {over_seeds(counts)}; changes in points, with an interval for each cell alone.",
        f"Equivalence margin: {_margin(accuracy)}. Baseline: {_commit(accuracy.baseline_commit)}.",
        _environment(accuracy),
        *(f"{each.cell.label}: {each.reason}." for each in accuracy.cells if each.reason),
        *(f"{each.cell.label}: {each.lost}, whatever the judgement." for each in accuracy.cells if each.lost),
        *(_look(each, accuracy) for each in accuracy.cells if each.first_seeds or _lacks_seeds(each, accuracy)),
        *(f"{each.cell.label}: bits changed in {each.changed}." for each in accuracy.cells if each.changed),
        *_meanings(accuracy),
        *(
            [
                f"MDE: the minimum detectable effect, the true drop in points that {_share(POWER)} of checks call "
                "worse if differences scatter normally. A drop within the margin is never called worse."
            ]
            * has_effects
        ),
    ]


def _lacks_seeds(check: CellCheck, accuracy: AccuracyCheck) -> bool:
    is_suspected = check.difference < 0 and check.suggests_change(accuracy.margin)
    return is_suspected and check.judgement is Judgement.INCONCLUSIVE and not check.changed


def _look(check: CellCheck, accuracy: AccuracyCheck) -> str:
    """How many seeds were compared because of a suspected change, and what to do if they do not show a drop."""
    parts = []
    if check.first_seeds:
        count = len(check.now.values)
        parts.append(f"the first seeds ({check.first_seeds}) suggested a change, so all {count} were compared")
    if _lacks_seeds(check, accuracy):
        parts.append("a drop is suspected and not shown; a baseline with a larger --reserve might show it")
    return f"{check.cell.label}: {'; '.join(parts)}."


def _environment(accuracy: AccuracyCheck) -> str:
    if accuracy.compares_bits:
        return "The environment is the baseline's: every bit of the common seeds is compared."
    if not accuracy.other_environment:
        return "The environment is the baseline's, but bits are not compared."
    return f"The environment is not the baseline's, so bits are not compared: {'; '.join(accuracy.other_environment)}."


def _meanings(accuracy: AccuracyCheck) -> list[str]:
    present = {each.judgement for each in accuracy.cells}
    lines = [f"{judgement}: {meaning}." for judgement, meaning in MEANINGS.items() if judgement in present]
    if present - {Judgement.SAME, Judgement.INCONCLUSIVE}:
        lines.append(
            f"At most {_share(LEVEL)} of checks make a false finding of one of these kinds in any cell; the page "
            "Statistics of the documentation says for which differences."
        )
    return lines


def speed_notes(speed: SpeedCheck) -> list[str]:
    """What a reader of the benchmarks' table must know."""
    present = {each.judgement for each in speed.benchmarks if benchmark_judgement(each) != "fails"}
    meanings = (
        f"{SPEED_WORDS.get(judgement, str(judgement))}: {meaning.format(threshold=speed.threshold)}."
        for judgement, meaning in SPEED_MEANINGS.items()
        if judgement in present
    )
    has_intervals = any(each.interval for each in speed.benchmarks)
    intervals = "; the intervals hold for all benchmarks together" if has_intervals else ""
    return [
        f"Against {speed.against} ({_commit(speed.against_commit)}): median times of a call. Ratio: now over before, "
        f"1.10 is 10 % slower{intervals}.",
        f"{speed.machine}; measured for {duration(speed.seconds)}.",
        *(f"{each.name}: {each.reason}." for each in speed.benchmarks if each.reason),
        *meanings,
    ]


def power_notes(accuracy: AccuracyCheck) -> list[str]:
    """What a reader of the table of needed seeds must know."""
    return [
        f"How many seeds would show in {_share(POWER)} of checks that an unchanged cell differs by less than "
        f"{_margin(accuracy)}: of the baseline's seeds (known), which are compared in pairs, and of others (new). "
        "Deviation: over seeds, in points. Empty: unknown scatter, or too many.",
        *(
            f"{each.cell.label}: impossible with this baseline: it needs {each.baseline_seeds_needed:,} seeds, and a "
            "check as many new ones."
            for each in accuracy.cells
            if each.baseline_seeds_needed
        ),
    ]


def strict_note(gate: Gate) -> list[str]:
    """What fails a strict check, if this is one."""
    if not gate.is_strict:
        return []
    return ["Strict: an inconclusive result fails too, and so does a better one: it asks for a new baseline."]


def title_of(gate: Gate) -> str:
    """What was checked: the suite, the speed, or both."""
    parts = [gate.accuracy.suite] if gate.accuracy else []
    return " and ".join([*parts, *(["speed"] if gate.speed else [])])


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _margin(accuracy: AccuracyCheck) -> str:
    text = f"{100 * accuracy.margin:g}"
    return f"{text} point{'' if text == '1' else 's'}"


def _commit(name: str) -> str:
    return f"commit {short_commit(name)}" if name and name != "none" else "unknown commit"


def _percent(spread: Spread) -> str:
    if not math.isfinite(spread.mean):
        return "none"
    return f"{100 * spread.mean:.1f}" + ("" if spread.std is None else f" ± {100 * spread.std:.1f}")


def _points(value: float) -> str:
    """Points with their sign, unless they round to zero."""
    text = f"{100 * value:+.1f}" if math.isfinite(value) else ""
    return "0.0" if text in ("+0.0", "-0.0") else text


def _time(value: float) -> str:
    return duration(value) if math.isfinite(value) else ""


def _effect(check: CellCheck) -> str:
    """The minimum detectable effect; of one that is larger than the value itself there is none."""
    if check.detectable_effect is None:
        return ""
    return "none" if check.detectable_effect > check.baseline.mean else f"{100 * check.detectable_effect:.1f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
