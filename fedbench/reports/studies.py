"""The report's section on tuning: the finished studies of a suite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from fedbench.reports.figure import Figure
from fedbench.reports.tuning import answer, candidate_rows, headline, sentences

if TYPE_CHECKING:
    from fedbench.tuning.reading import StoredStudies, StoredStudy

FIGURE = TypeAdapter(Figure)


@dataclass(frozen=True)
class StudyPart:
    """A study on the page.

    Attributes
    ----------
    rows
        Title, default and best of each line of the table.
    figures
        Under names that no other study's have.
    """

    title: str
    headline: list[str]
    rows: list[tuple[str, str, str]]
    sentences: list[str]
    answer: str
    figures: list[Figure]


def study_parts(stored: StoredStudies) -> tuple[list[StudyPart], list[str]]:
    """The studies' parts of the page, in the same order, and the run ids of those whose files are gone or damaged."""
    parts, lost = [], list(stored.lost)
    for study in stored.found:
        try:
            parts.append(_part(study))
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):  # not as fedbench writes it
            lost.append(study.run_id)
    return parts, lost


def _part(study: StoredStudy) -> StudyPart:
    document = study.document
    title, *lines = headline(document)
    figures, others = [], []
    for each in document["figures"]:
        try:
            figure = FIGURE.validate_python(each)
        except ValueError:  # an earlier version drew it
            others.append(str(each["title"]))
        else:
            figures.append(replace(figure, prefix=f"tuning {study.run_id[:8]}"))
    if others:
        lines.append(f"Only in the artifacts of run {study.run_id}: {', '.join(others)}.")
    return StudyPart(title, lines, candidate_rows(document), sentences(document), answer(document), figures)
