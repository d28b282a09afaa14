"""A check as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from made_gate import FAILED, GATES, NASTY, NASTY_NAMES, PASSED, SPEED_ALONE, STRICT

from fedbench.gate.checks import Gate
from fedbench.gate.junit import junit_xml


def parsed(gate: Gate) -> ET.Element:
    return ET.fromstring(junit_xml(gate))  # noqa: S314 - our own


def suites(gate: Gate) -> dict[str, ET.Element]:
    return {suite.get("name", ""): suite for suite in parsed(gate).findall("testsuite")}


def counts(element: ET.Element) -> list[str | None]:
    return [element.get(name) for name in ("tests", "failures", "skipped", "errors")]


def test_there_is_a_suite_of_the_accuracy_and_one_of_the_speed_each_with_its_time() -> None:
    found = suites(PASSED)
    assert ["fedbench.made", "fedbench.speed"] == list(found)
    assert ["12.346", "200.000"] == [suite.get("time") for suite in found.values()]
    assert ["fedbench.speed"] == list(suites(SPEED_ALONE))
    assert "212.346" == parsed(PASSED).get("time")


def test_each_cell_and_each_benchmark_is_a_case() -> None:
    found = suites(PASSED)
    names = {(case.get("classname"), case.get("name")) for case in found["fedbench.made"].iter("testcase")}
    assert {("fedbench.made.pair", "pair init=shared"), ("fedbench.made.pair", "pair init=independent")} == names
    names = {(case.get("classname"), case.get("name")) for case in found["fedbench.speed"].iter("testcase")}
    assert {("fedbench.speed.training", "step[cnn-10]"), ("fedbench.speed.averaging", "average")} == names


@pytest.mark.parametrize("gate", GATES)
def test_the_numbers_of_cases_are_those_that_are_there(gate: Gate) -> None:
    root = parsed(gate)
    for element in (root, *root.findall("testsuite")):
        there = [len(list(element.iter(name))) for name in ("testcase", "failure", "skipped", "error")]
        assert [str(number) for number in there] == counts(element)
    assert str(len(gate.failures)) == root.get("failures")


def test_a_failure_has_the_numbers_in_its_message() -> None:
    failure = suites(FAILED)["fedbench.made"].find("testcase/failure")
    assert failure is not None
    message = failure.get("message", "")
    assert "worse: -6.0 points (95 % interval -8.5 to -3.5)" == message
    assert "now 81.0 ± 0.0" in (failure.text or "")


def test_what_cannot_be_told_is_skipped_unless_it_fails() -> None:
    found = suites(FAILED)
    assert ["2", "1", "1", "0"] == counts(found["fedbench.made"])
    skipped = [each.get("message") for suite in found.values() for each in suite.iter("skipped")]
    assert ["one seed", "not clear after 9 sessions"] == skipped
    assert ["2", "2", "0", "0"] == counts(suites(STRICT)["fedbench.made"])


def test_commit_and_environment_are_properties() -> None:
    properties = {each.get("name"): each.get("value") for each in suites(PASSED)["fedbench.made"].iter("property")}
    assert "c0ffee1" + 33 * "0" == properties["baseline_commit"]
    assert "torch 2.14.1, was 2.13.0; processor GenuineIntel, was AuthenticAMD" == properties["other_environment"]
    properties = {each.get("name"): each.get("value") for each in suites(PASSED)["fedbench.speed"].iter("property")}
    assert ("main", "a processor, 2 cores") == (properties["against"], properties["machine"])


def test_a_name_reads_as_it_was_without_what_xml_cannot_hold() -> None:
    (case,) = suites(NASTY_NAMES)["fedbench.speed"].iter("testcase")
    assert NASTY.replace("\x00", "") == case.get("name")
