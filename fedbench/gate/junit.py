"""A check as JUnit XML, which CI servers read: each cell and each benchmark is a test case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

from fedbench import __version__
from fedbench.gate.checks import AccuracyCheck, BenchmarkCheck, CellCheck, Gate, Judgement, SpeedCheck
from fedbench.gate.text import accuracy_rows, speed_rows

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # not allowed in XML 1.0
NAME = "fedbench"  # what the names of classes begin with
Case = tuple[str, str, str, CellCheck | BenchmarkCheck]  # classname, name, the numbers on a line, the check


def junit_xml(gate: Gate) -> str:
    """The check as JUnit XML: a test suite for the accuracy and one for the speed.

    What fails the check is a failure with its numbers; an inconclusive result that does not fail it is skipped.
    """
    root = ET.Element("testsuites", name=NAME)
    if accuracy := gate.accuracy:
        properties = _properties(accuracy, "suite", "metric", "margin", "baseline_commit")
        properties["other_environment"] = "; ".join(accuracy.other_environment)
        lines = zip(accuracy.cells, accuracy_rows(accuracy, gate.is_strict).lines, strict=True)
        cells = (
            (
                f"{NAME}.{each.cell.suite}.{each.cell.scenario}",
                each.cell.label,
                line + (f"; bits changed in {each.changed}" if each.changed else ""),
                each,
            )
            for each, line in lines
        )
        _add_suite(root, accuracy.suite, accuracy.seconds, properties, cells, gate.is_strict)
    if speed := gate.speed:
        properties = _properties(speed, "against", "against_commit", "threshold", "machine")
        rows = zip(speed.benchmarks, speed_rows(speed, gate.is_strict).lines, strict=True)
        benchmarks = (
            (".".join(filter(None, (NAME, "speed", each.group))), each.name, line, each) for each, line in rows
        )
        _add_suite(root, "speed", speed.seconds, properties, benchmarks, gate.is_strict)
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _properties(check: AccuracyCheck | SpeedCheck, *names: str) -> dict[str, str]:
    return {name: str(getattr(check, name)) for name in names}


def _add_suite(
    root: ET.Element,
    name: str,
    seconds: float,
    properties: Mapping[str, str],
    cases: Iterable[Case],
    is_strict: bool,
) -> None:
    suite = ET.SubElement(root, "testsuite", name=_plain(f"{NAME}.{name}"), time=f"{seconds:.3f}", errors="0")
    listed = ET.SubElement(suite, "properties")
    for key, value in {"fedbench": __version__, **properties}.items():
        ET.SubElement(listed, "property", name=key, value=_plain(value))
    for classname, label, details, check in cases:
        # The time of each is unknown: the cells of a suite are computed in parallel.
        case = ET.SubElement(suite, "testcase", classname=_plain(classname), name=_plain(label), time="0")
        if why := check.failure(is_strict):
            ET.SubElement(case, "failure", message=_plain(why)).text = _plain(details.replace(", ", "\n"))
        elif check.judgement is Judgement.INCONCLUSIVE:
            ET.SubElement(case, "skipped", message=_plain(check.reason or check.judgement))
        ET.SubElement(case, "system-out").text = _plain(details)
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(attribute, str(len(list(suite.iter(tag)))))


def _plain(text: str) -> str:
    """A text without the control characters that XML cannot hold."""
    return FORBIDDEN.sub("", text)
