"""A check as JUnit XML, the form in which CI servers read tests: each cell and each benchmark is a test case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from fedbench import __version__
from fedbench.gate.checks import (
    AccuracyCheck,
    BenchmarkCheck,
    CellCheck,
    Gate,
    Judgement,
    SpeedCheck,
    benchmark_failure,
    cell_failure,
)
from fedbench.gate.text import Rows, accuracy_rows, benchmark_judgement, cell_judgement, speed_rows

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 has no place for


@dataclass(frozen=True)
class _Case:
    """A test case.

    Attributes
    ----------
    details
        The numbers, a line.
    failure, skipped
        Why, in words; None if it is not so.
    """

    classname: str
    name: str
    details: str
    failure: str | None
    skipped: str | None


def junit_xml(gate: Gate, name: str = "fedbench") -> str:
    """The check as JUnit XML: a test suite for the accuracy and one for the speed.

    What fails the check is a failure with its numbers; what cannot be told, where that does not fail, is skipped.

    Parameters
    ----------
    name
        Of the whole, and of what the classes' names begin with.
    """
    root = ET.Element("testsuites", name=plain(name))
    if gate.accuracy:
        _accuracy_suite(root, gate.accuracy, gate.is_strict, name)
    if gate.speed:
        _speed_suite(root, gate.speed, gate.is_strict, name)
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _accuracy_suite(root: ET.Element, accuracy: AccuracyCheck, is_strict: bool, name: str) -> None:
    properties = {
        "suite": accuracy.suite,
        "metric": accuracy.metric,
        "margin": str(accuracy.margin),
        "baseline_commit": accuracy.baseline_commit,
        "other_environment": "; ".join(accuracy.other_environment),
    }
    lines = _lines(accuracy_rows(accuracy, is_strict))
    cases = [_cell_case(each, line, is_strict, name) for each, line in zip(accuracy.cells, lines, strict=True)]
    _add_suite(root, f"{name}.{accuracy.suite}", accuracy.seconds, properties, cases)


def _cell_case(check: CellCheck, line: str, is_strict: bool, name: str) -> _Case:
    failure = cell_failure(check, is_strict)
    details = line + (f"; bits changed in {check.changed}" if check.changed else "")
    skipped = check.reason or cell_judgement(check) if check.judgement is Judgement.CANNOT_TELL else None
    return _Case(f"{name}.{check.cell.suite}.{check.cell.scenario}", check.cell.label, details, failure, skipped)


def _speed_suite(root: ET.Element, speed: SpeedCheck, is_strict: bool, name: str) -> None:
    properties = {
        "against": speed.against,
        "against_commit": speed.against_commit,
        "threshold": str(speed.threshold),
        "machine": speed.machine,
    }
    lines = _lines(speed_rows(speed, is_strict))
    cases = [_benchmark_case(each, line, is_strict, name) for each, line in zip(speed.benchmarks, lines, strict=True)]
    _add_suite(root, f"{name}.speed", speed.seconds, properties, cases)


def _benchmark_case(check: BenchmarkCheck, line: str, is_strict: bool, name: str) -> _Case:
    skipped = check.reason or benchmark_judgement(check) if check.judgement is Judgement.CANNOT_TELL else None
    classname = ".".join(filter(None, (name, "speed", check.group)))
    return _Case(classname, check.name, line, benchmark_failure(check, is_strict), skipped)


def _lines(rows: Rows) -> list[str]:
    """Each row in words: ``baseline 86.2, now 84.1, difference -2.1, ...``."""
    return [
        ", ".join(f"{name} {text}" for name, text in zip(rows.columns[1:], entry[1:], strict=True) if text)
        for entry in rows.entries
    ]


def _add_suite(
    root: ET.Element, name: str, seconds: float, properties: Mapping[str, str], cases: Sequence[_Case]
) -> None:
    failed = sum(case.failure is not None for case in cases)
    skipped = sum(case.failure is None and case.skipped is not None for case in cases)
    numbers = {"tests": len(cases), "failures": failed, "errors": 0, "skipped": skipped}
    attributes = {key: str(value) for key, value in numbers.items()} | {"time": f"{seconds:.3f}"}
    suite = ET.SubElement(root, "testsuite", {"name": plain(name), **attributes})
    listed = ET.SubElement(suite, "properties")
    for key, value in {"fedbench": __version__, **properties}.items():
        ET.SubElement(listed, "property", name=key, value=plain(value))
    for case in cases:
        # How long each took is not known: those of a suite are computed side by side.
        element = ET.SubElement(suite, "testcase", classname=plain(case.classname), name=plain(case.name), time="0")
        if case.failure is not None:
            failure = ET.SubElement(element, "failure", message=plain(case.failure))
            failure.text = plain(case.details.replace(", ", "\n"))
        elif case.skipped is not None:
            ET.SubElement(element, "skipped", message=plain(case.skipped))
        ET.SubElement(element, "system-out").text = plain(case.details)


def plain(text: str) -> str:
    """A text without the control characters that XML cannot hold."""
    return FORBIDDEN.sub("", text)
