"""A study's result as sentences, as a table and as JSON: all from one object, which the study's run stores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.measures import Verdict
from fedbench.reports.fitted import Column, Fitted
from fedbench.reports.layout import STYLES, WITHOUT, mean_std, short_verdict
from fedbench.reports.measure import measure_of
from fedbench.stats import spread
from fedbench.suites.tune import Objective
from fedbench.tuning.results import Answer
from fedbench.tuning.study_records import study_json

if TYPE_CHECKING:
    from fedbench.tuning.results import TuningResult

Document = Mapping[str, Any]  # what `study_json` makes
ANSWER_STYLES = {Answer.BETTER: "bold green", Answer.WORSE: "bold red"}
NO_GAIN = {  # before the reason
    Answer.UNCLEAR: "the search gained nothing that these seeds can show: ",
    Answer.WORSE: "the search gained nothing: ",
    Answer.SAME: "the search gained nothing: ",
}


def tuning_table(result: TuningResult) -> RenderableType:
    """The table of default and best, between a headline and the answer."""
    document = study_json(result)
    parts: list[RenderableType] = [Text(line) for line in headline(document)]
    if rows := candidate_rows(document):
        sides = [[Text(row[side], _style(row[0], row[side])) for row in rows] for side in (1, 2)]
        titles = Column("", [title for title, *_ in rows], is_text=True)
        parts += ["", Fitted(titles, Column("default", sides[0]), Column("best", sides[1]))]
    parts += ["", *(Text(line) for line in sentences(document))]
    return Group(*parts, Text(answer(document), style=ANSWER_STYLES.get(result.answer, "bold yellow")))


def _style(title: str, value: str) -> str:
    return next((STYLES[verdict] for verdict in Verdict if title == "verdict" and value.startswith(verdict)), "")


def headline(document: Document) -> list[str]:
    """What was tuned, by which objective, and how the trials ended."""
    *others, last = document["searched"]
    fields = f"{', '.join(others)} and {last}" if others else last
    aim = "lowest" if Objective(document["objective"]).is_minimised else "highest"
    if document["objective"] == Objective.ROUNDS_TO_TARGET:
        aim = "fewest"
    complete = document["trials"] - document["pruned"] - document["failed"]
    verdicts = [f"{document['collapsed']} of them collapsed"]
    verdicts += [
        f"{count} {key.replace('_', ' ')}" for key in ("below_majority", "diverged") if (count := document.get(key))
    ]
    return [
        f"{document['suite']}: {document['cell']}",
        f"Searched: {fields}, for the {aim} {objective_words(document)} on the validation split.",
        f"{document['trials']} trials: {complete} complete, {document['pruned']} pruned, {document['failed']} failed; "
        f"{', '.join(verdicts)}. {_seeds(document['seeds'])} each; {document['local_steps']:,} local steps in all.",
    ]


def _seeds(seeds: Sequence[int], kind: str = "") -> str:
    return f"{len(seeds)} {kind}seed{'s' * (len(seeds) != 1)}"


def objective_words(document: Document) -> str:
    """The objective as text."""
    if document["objective"] == Objective.ROUNDS_TO_TARGET:
        return f"rounds to {100 * document['target']:.4g} % accuracy"
    return str(document["objective"]).replace("_", " ")


def objective_scale(objective: str) -> tuple[float, int, str]:
    """How a value is shown: the factor, the digits after the point, and the unit of a difference.

    Rates are shown in percent.
    """
    measure = measure_of(objective)
    return measure.scale, measure.digits, measure.difference_unit


def candidate_rows(document: Document) -> list[tuple[str, str, str]]:
    """Title, default and best of each line of the table; empty if there is neither."""
    sides = [document["default"], document["best"]]
    if not any(sides):
        return []
    name = objective_words(document) + (" (%)" if objective_scale(document["objective"])[2] == "points" else "")
    fields = list(dict.fromkeys([*document["searched"], "rounds"]))
    titles = [field.replace("_", " ") for field in fields]
    titles += ["local steps of a run", f"{name}, validation", f"{name}, test", "verdict"]
    default, best = (_column(document, side, fields) if side else [""] * len(titles) for side in sides)
    return [(title, one or "–", other or "–") for title, one, other in zip(titles, default, best, strict=True)]


def _column(document: Document, side: Document, fields: Sequence[str]) -> list[str]:
    return [
        *(_field(field, side["params"].get(field, side.get(field))) for field in fields),
        f"{side['local_steps']:,}",
        _spread(document, side["validation_values"]),
        _spread(document, side["test"]["values"]),
        short_verdict(Verdict(side["verdict"]), side["reason"]),
    ]


def _field(field: str, value: object) -> str:
    if value is None:
        return "all" if field not in WITHOUT else "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _spread(document: Document, values: Sequence[float | None]) -> str:
    """Mean ± standard deviation over seeds; where some did not reach the target, how many did."""
    scale, digits, _ = objective_scale(document["objective"])
    if missed := _missed(document, values):
        reached = len(values) - missed
        return f"{reached} of {len(values)} reached" if reached else "not reached"
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "not finite"
    return mean_std(spread(known), digits, scale) if known else ""


def _missed(document: Document, values: Sequence[float | None]) -> int:
    """How many of the seeds did not reach the target, if there is one."""
    if document["objective"] != Objective.ROUNDS_TO_TARGET:
        return 0
    most = document.get("most_rounds", math.inf)  # not in studies of earlier versions
    return sum(value is None or value > most for value in values)


def sentences(document: Document) -> list[str]:
    """The gain with its interval, what the numbers refer to, and what was held equal."""
    found = []
    if document["gain"]["mean"] is not None:
        found.append(_gain(document))
    if document["best"]:
        found.append(
            f"±: standard deviation over {_seeds(document['seeds'])} on the validation split, over "
            f"{_seeds(document['fresh_seeds'], 'fresh ')} on the test set, which chose nothing."
        )
    found += _looks(document)
    candidates = [(name, document[name]) for name in ("default", "best") if document[name]]
    found += [f"{name}: {each['verdict']}, {each['reason']}" for name, each in candidates if each["reason"]]
    return [*found, _budget(document)]


def _looks(document: Document) -> list[str]:
    """How often the test set has answered, and whether fresh seeds are no longer fresh."""
    count = document.get("answers", 0)  # not in studies of earlier versions
    times = "once" if count == 1 else f"{count} times"
    weaker = "; the more often, the less its answer shows" if count > 1 else ""
    found = [f"The test set has answered {times} for this study{weaker}."] if count else []
    if document.get("fresh_seeds_reused"):
        found.append("The fresh seeds were used for another answer before: take tune: fresh_seeds out for new ones.")
    return found


def _gain(document: Document) -> str:
    scale, digits, unit = objective_scale(document["objective"])
    mean, *bounds = (
        None if value is None else f"{scale * value:+.{digits}f}"
        for value in (document["gain"][name] for name in ("mean", "low", "high"))
    )
    interval = f" (95 % interval {bounds[0]} to {bounds[1]})" if all(bounds) else ""
    sign = (
        "" if unit == "points" else "; above zero, the best needs less" if unit == "rounds" else "; above zero is less"
    )
    if any(_missed(document, document[side]["test"]["values"]) for side in ("default", "best")):
        sign += f"; a seed that did not reach the target counts as {document['most_rounds'] + 1} or more"
    return f"gain on the test set: {mean} {unit}{interval}, seed by seed{sign}"


def _budget(document: Document) -> str:
    best, default = document["best"], document["default"]
    if "rounds" in document["searched"]:
        return "budget: rounds are searched: nothing is held equal"
    held, both = "rounds are held equal", bool(best and default)
    if document["budget"] == "steps":
        held = "local steps are held equal"
        held += f"; the best has {best['rounds']} rounds, the default {default['rounds']}" if both else ""
    elif both and default["local_steps"]:
        ratio = best["local_steps"] / default["local_steps"]
        times = "as many local steps as the default" if ratio == 1 else f"{ratio:.2g}x the default's local steps"
        held += f"; the best takes {times}"
    return f"budget: {held}"


def answer(document: Document) -> str:
    """The answer as a sentence."""
    text = f"{NO_GAIN.get(document['verdict'], '')}{document['reason']}"
    return text if text.startswith(document["verdict"]) else f"{document['verdict']}: {text}"
