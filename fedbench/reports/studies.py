"""The report's section on tuning: the finished studies of a suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedbench.reports.style import Figure
from fedbench.reports.tuning import answer, candidate_rows, headline, sentences

if TYPE_CHECKING:
    from fedbench.tuning.reading import StoredStudies, StoredStudy


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


@dataclass(frozen=True)
class Studies:
    """The parts of the page, and the run ids of the studies whose files are gone or damaged."""

    parts: tuple[StudyPart, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def figures(self) -> list[Figure]:
        """The figures of all."""
        return [figure for part in self.parts for figure in part.figures]


NO_STUDIES = Studies()


def study_parts(stored: StoredStudies) -> Studies:
    """The studies' parts of the page, in the same order."""
    parts, lost = [], list(stored.lost)
    for study in stored.found:
        try:
            parts.append(_part(study))
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
        ):  # its file is not as fedbench writes it
            lost.append(study.run_id)
    return Studies(tuple(parts), tuple(lost))


def _part(study: StoredStudy) -> StudyPart:
    document = study.document
    figures = [
        Figure(f"tuning-{study.run_id[:8]}-{name}", each["title"], each["caption"], study.figures[name])
        for each in document["figures"]
        if (name := each["name"]) in study.figures
    ]
    title, *lines = headline(document)
    if gone := [each["title"] for each in document["figures"] if each["name"] not in study.figures]:
        lines.append(f"Gone from the store: {', '.join(gone)}.")
    return StudyPart(title, lines, candidate_rows(document), sentences(document), answer(document), figures)
