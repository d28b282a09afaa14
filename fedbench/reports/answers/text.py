"""An answer in a sentence, as a ranking, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedbench.algorithms import ALGORITHMS
from fedbench.components import KINDS
from fedbench.reports.layout import number
from fedbench.reports.measure import Measure
from fedbench.stats.contrasts import MAX_SEEDS
from fedbench.suites.contrast import SCENARIO
from fedbench.util.text import counted

if TYPE_CHECKING:
    from fedbench.reports.answers.records import Answer, Pair, Setting

HOW = (
    "Differences are paired by seed. What is shown holds for all comparisons of a scenario together, at 5 %; each "
    "interval holds by itself. Ranks are those left open by what is shown. So many seeds would show a true difference "
    "of this size with a probability of 80 %."
)
ACRONYMS = {"Scaffold": "SCAFFOLD"}  # algorithms that are not written as their classes
MOST_ANSWERS = 4  # in a few lines; `fedbench answer` has all
MOST_NAMED = 3  # cells that are not compared, one by one
MOST_DIGITS = 9  # decimals of a difference


def sentence(answer: Answer) -> str:
    """What a person would write."""
    order, scenario = list(answer.overall.ranks), f"{answer.scenario}: " if answer.num_scenarios > 1 else ""
    if answer.num_values:
        return (
            f"{scenario}{answer.axis} is not compared: it has {answer.num_values} values. Name it in the suite's "
            "contrast to compare every two."
        )
    if not order:
        why = _named(answer, answer.left_out) or "no seed in common"
        return f"{scenario}Nothing to compare along {answer.axis}: {why}."
    said = _of_two(answer, answer.overall.pairs[0]) if len(order) == 2 else _of_several(answer, order)
    said += f" Not compared: {_named(answer, answer.left_out)}." if answer.left_out else ""
    said += f" Without seeds that failed: {_named(answer, answer.failed)}." if answer.failed else ""
    return f"{scenario}{said}"


def ranking(answer: Answer) -> str:
    """The ranks of three values or more, with their means where all settings have all of them."""
    ranks, means = answer.overall.ranks, answer.overall.means
    if len(ranks) < 3:
        return ""
    texts = {text: f" ({answer.measure.text(means[text])})" if text in means else "" for text in ranks}
    return ", ".join(f"{_rank(rank)}: {_short(answer, text)}{texts[text]}" for text, rank in ranks.items())


def answer_lines(answers: Sequence[Answer], most: int = MOST_ANSWERS) -> list[str]:
    """The sentences in order, at most so many, those that show a difference rather than others."""
    first = sorted(answers, key=lambda each: not any(pair.shown for pair in each.overall.pairs))[:most]
    return [each.sentence for each in answers if each in first]


def cell_answers(answers: Iterable[Answer]) -> dict[str, dict[str, str]]:
    """What the comparison says of each cell: by label and axis, its rank and which values are shown to differ."""
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for setting in answer.settings:
            for text, rank in setting.ranks.items():
                said = [f"rank {_rank(rank)} of {len(setting.ranks)} by {answer.measure.words}"]
                shown: dict[str, list[str]] = {}
                for other in setting.ranks:
                    if pair := setting.pair(text, other) if other != text else None:
                        above = (pair.difference > 0) == (pair.second == text)
                        how = f"shown to be {'higher' if above else 'lower'} than"
                        shown.setdefault(how if pair.shown else "not shown to differ from", []).append(other)
                said += [f"{how} {_and(others)}" for how, others in shown.items()]
                found.setdefault(setting.labels[text], {})[answer.axis] = "; ".join(said)
        for label, reason in answer.left_out.items():
            found.setdefault(label, {})[answer.axis] = f"not compared by {answer.measure.words}: {reason}"
    return found


def answers_text(question: str, answers: Sequence[Answer], num_replaced: int = 0) -> str:
    """The question and its answers, with rankings, for people; and how many cells a changed file has replaced."""
    lines = [question, ""]
    for answer in answers:
        lines.append(answer.sentence)
        lines += [f"  Ranking: {answer.ranking}"] if answer.ranking else []
    if not answers:
        lines.append("No cells are compared: no two differ in one field alone, or the suite's contrast says so.")
    if num_replaced:
        lines.append(
            f"Not compared: {counted(num_replaced, 'older cell')} of the same name, from before the file changed."
        )
    if any(answer.overall.pairs for answer in answers):
        lines += ["", HOW]
    return "\n".join(lines)


def _of_two(answer: Answer, pair: Pair) -> str:
    one, other = _short(answer, pair.first), _name(answer, pair.second)
    if pair.is_zero:
        return f"{other} and {one} have the same {answer.measure.words} in {_all_seeds(pair)}."
    best, worst = list(answer.overall.ranks)
    if pair.shown:
        how = f"{answer.measure.words} {_evidence(answer, best, worst)}"
        return f"{_name(answer, best)} is better than {_short(answer, worst)}: {how}."
    how = f"{answer.measure.words} {_evidence(answer, pair.second, pair.first)}"
    return f"{other} is not shown to differ from {one}: {how}{_needed(pair)}."


def _of_several(answer: Answer, order: Sequence[str]) -> str:
    best, measure = order[0], answer.measure
    if all(pair.is_zero for pair in answer.overall.pairs):
        return f"All {len(order)} have the same {measure.words} in {_all_seeds(answer.overall.pairs[0])}."
    pairs = {text: answer.overall.pair(best, text) for text in order[1:]}
    below = [_short(answer, text) for text, pair in pairs.items() if pair and pair.shown]
    tied = [text for text, pair in pairs.items() if not (pair and pair.shown)]
    highest, lower = ("lowest", "higher") if measure.lower_is_better else ("highest", "lower")
    highest = "fewest" if measure.unit == "rounds" else highest
    if not tied:
        second = order[1]
        how = f"{measure.words} {_evidence(answer, best, second, f' compared with {_short(answer, second)}')}"
        return f"{_name(answer, best)} is the best of {len(order)} values: {how}."
    nearest = tied[0] if below else tied[-1]
    over = f" compared with {_short(answer, nearest)}"
    how = f"{_evidence(answer, best, nearest, over)}{_needed(pairs[nearest])}"
    head = f"{_name(answer, best)} has the {highest} {measure.words} of {len(order)} values"
    if not below:
        return f"{head}, but no other is shown to be {lower}: {how}."
    names = [_short(answer, text) for text in tied]
    return f"{head}; {_and(below)} {_is(below)} shown to be {lower}, {_and(names)} {_is(names)} not: {how}."


def _evidence(answer: Answer, better: str, than: str, over: str = "") -> str:
    """``+0.6 points (95 % interval -2.1 to +3.3, 5 seeds)``."""
    measure, pair = answer.measure, answer.overall.pair(better, than)
    if pair is None:
        return "no seed in common"
    sign = 1 if pair.second == better else -1
    digits = _digits(measure, pair)
    unit = measure.difference_unit
    unit = "" if measure.words.startswith(unit) else f" {unit}"
    amount = f"{measure.text(sign * pair.difference, '+', digits)}{unit}{over}"
    if len(answer.settings) > 1:
        amount += _settings_text(answer, pair)
    if pair.interval is None:
        return f"{amount} ({_seeds(pair) if len(pair.seeds) == 1 else f'the same in {_all_seeds(pair)}'})"
    low, high = (measure.text(bound, "+", digits) for bound in sorted(sign * bound for bound in pair.interval))
    return f"{amount} (95 % interval {low} to {high}, {_seeds(pair)})"


def _digits(measure: Measure, pair: Pair) -> int:
    """So many decimals that the interval, or a difference without one, has two digits."""
    low, high = pair.interval or (0.0, pair.difference)
    digits, width = measure.digits, measure.scale * abs(high - low)
    while digits < MOST_DIGITS and 0 < width < 10 * 10**-digits:
        digits += 1
    return digits


def _settings_text(answer: Answer, pair: Pair) -> str:
    """`` on average over 3 values of num_clients, with this sign in 2``."""
    fixed = list(dict.fromkeys(name for setting in answer.settings for name in setting.fixed))
    if pair.num_settings == 1:
        return " in the one setting that has both"
    settings = f"{pair.num_settings} values of {fixed[0]}" if len(fixed) == 1 else f"{pair.num_settings} settings"
    same = pair.higher_in if pair.difference > 0 else pair.lower_in
    return f" on average over {settings}, with this sign in {'all' if same == pair.num_settings else same}"


def _needed(pair: Pair | None) -> str:
    """What would show a difference that is not shown."""
    if pair is None or pair.is_zero:
        return ""
    if len(pair.seeds) == 1:
        return "; one seed shows no difference"
    text = f"; a difference of this size would need more than {MAX_SEEDS:,} seeds"
    if pair.seeds_needed:
        text = f"; about {_rounded(pair.seeds_needed):,} seeds would show a difference of this size"
    if pair.interval and not pair.interval[0] <= 0 <= pair.interval[1]:
        among = f"among {pair.num_tests} comparisons" if pair.num_tests > 1 else f"with {_seeds(pair)}"
        text = f"; the interval excludes zero, which is not enough {among}{text}"
    return text


def _rounded(number: int) -> int:
    """Two digits of a number, rounded up."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // unit) * unit


def _named(answer: Answer, cells: Mapping[str, str]) -> str:
    """Cells with what is said of each; of many, how many there are of each kind."""
    if len(cells) <= MOST_NAMED:
        return _and([f"{name.removeprefix(f'{answer.scenario} ')} ({reason})" for name, reason in cells.items()])
    kinds = Counter(reason.partition(" in ")[0] for reason in cells.values())
    return _and([f"{counted(count, 'cell')} ({kind})" for kind, count in kinds.items()])


def _seeds(pair: Pair) -> str:
    """``5 seeds``, ``3 common seeds`` where a cell has more, or ``one seed``."""
    count, common = len(pair.seeds), "" if pair.are_all else "common "
    return f"{count} {common}seeds" if count > 1 else f"one {common}seed"


def _all_seeds(pair: Pair) -> str:
    """``all 5 seeds``, ``both seeds``, ``one seed``."""
    text = _seeds(pair)
    return text if len(pair.seeds) == 1 else f"both {text[2:]}" if len(pair.seeds) == 2 else f"all {text}"


def _rank(rank: tuple[int, int]) -> str:
    """``2``, or ``1 to 3``."""
    return " to ".join(map(str, dict.fromkeys(rank)))


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _name(answer: Answer, text: str) -> str:
    """A value where it is first named: ``learning_rate=0.1``, or a part by its name."""
    is_name = answer.axis in KINDS or answer.axis == SCENARIO
    return _short(answer, text) if is_name else f"{answer.axis}={text}"


def _short(answer: Answer, text: str) -> str:
    name, space, options = text.partition(" ")
    if answer.axis != "algorithm" or name not in ALGORITHMS:
        return text
    called = ALGORITHMS[name].rpartition(":")[2]
    return f"{ACRONYMS.get(called, called)}{space}{options}"


def _and(texts: Sequence[str]) -> str:
    *others, last = texts or [""]
    return f"{', '.join(others)} and {last}" if others else last


def answers_json(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """The answers for machines (see docs/reference/json.md); numbers in the measures' own units."""
    return [
        {
            "scenario": answer.scenario or None,
            "axis": answer.axis,
            "measure": answer.measure.metric,
            "sentence": answer.sentence,
            "ranks": _ranks_json(answer.overall),
            "pairs": [_pair_json(pair) for pair in answer.overall.pairs],
            "settings": [_setting_json(each) for each in answer.settings] if len(answer.settings) > 1 else [],
            "left_out": dict(answer.left_out),
            "failed": dict(answer.failed),
        }
        for answer in answers
    ]


def _ranks_json(setting: Setting) -> dict[str, list[int]]:
    return {text: list(rank) for text, rank in setting.ranks.items()}


def _setting_json(setting: Setting) -> dict[str, Any]:
    pairs = [_pair_json(pair) for pair in setting.pairs]
    return {"fixed": dict(setting.fixed), "ranks": _ranks_json(setting), "pairs": pairs}


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "seeds": list(pair.seeds),
        "difference": number(pair.difference),
        "ci95": [number(bound) for bound in pair.interval or ()],
        "p_value": number(pair.p_value),
        "num_tests": pair.num_tests,
        "shown": pair.shown,
        "detectable": number(pair.detectable),
        "seeds_needed": pair.seeds_needed,
    }
