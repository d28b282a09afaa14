"""A check as a table, as Markdown, as JUnit XML and as JSON."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from made_gate import (
    CHANGED,
    FAILED,
    GATES,
    NASTY,
    NASTY_NAMES,
    OTHER,
    PASSED,
    SPEED_ALONE,
    STRICT,
    made_accuracy,
    made_check,
)
from rich.console import Console

from fedbench.gate.checks import MEANINGS, Gate, Judgement
from fedbench.gate.document import gate_json
from fedbench.gate.junit import junit_xml
from fedbench.gate.markdown import gate_markdown
from fedbench.gate.terminal import gate_table

ESCAPED = "\\x00"  # a terminal must not be sent the character itself


def printed(gate: Gate, width: int = 160, power: bool = False) -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(gate_table(gate, power))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def row(text: str, name: str) -> list[str]:
    """The entries of the row that begins with `name`."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name}  "))
    return re.split(r" {2,}", line)


# The table


def test_a_cell_is_a_row_of_percent_and_points_with_the_judgement() -> None:
    expected = ["pair init=shared", "87.0 ± 1.0", "81.0 ± 0.0", "-6.0", "-8.5 to -3.5", "worse", "2.1"]
    assert expected == row(printed(FAILED), "pair init=shared")


def test_a_single_seed_has_no_deviation_and_no_interval_and_a_note_with_the_reason() -> None:
    text = printed(FAILED)
    assert ["pair init=independent", "86.0", "87.0", "+1.0", "inconclusive"] == row(text, "pair init=independent")
    assert "pair init=independent: one seed." in text.splitlines()


def test_a_benchmark_is_a_row_of_times_with_ratio_interval_and_samples() -> None:
    expected = ["step[cnn-10]", "20.0 ms", "26.0 ms", "1.30", "1.28 to 1.32", "120", "slower"]
    assert expected == row(printed(FAILED), "step[cnn-10]")
    assert ["evaluate", "fails"] == row(printed(FAILED), "evaluate")
    assert ["step", "20.0 ms", "20.4 ms", "1.02"] == row(printed(SPEED_ALONE), "step")[:4]


@pytest.mark.parametrize("gate", GATES)
def test_the_last_lines_say_that_it_passed_or_what_failed(gate: Gate) -> None:
    last = printed(gate, width=1000).splitlines()[-max(len(gate.failures), 1) :]
    expected = [f"failed: {' '.join(each.replace(chr(0), ESCAPED).split())}" for each in gate.failures] or ["passed"]
    assert expected == last


def test_a_note_says_where_the_first_bit_changed() -> None:
    text = printed(CHANGED)
    assert "equivalent, bits changed" in row(text, "pair init=independent")
    where = "3 of 3 seeds, first in seed 0: round 2, client 1"
    assert f"pair init=independent: bits changed in {where}." in text
    assert f"failed: pair init=independent: changed: {where}" == text.splitlines()[-1]


def test_the_notes_name_the_margin_the_baseline_and_the_environment() -> None:
    text = printed(PASSED)
    assert "Equivalence margin: 1 point. Baseline: commit c0ffee1." in text
    assert all(words in text for words in OTHER)
    assert "The environment is the baseline's: every bit of the common seeds is compared." in printed(FAILED)
    assert "Against main (commit c0ffee1): median times of a call." in text


def test_only_judgements_that_occur_are_explained() -> None:
    lines = printed(FAILED).splitlines()
    explained = {judgement for judgement, meaning in MEANINGS.items() if f"{judgement}: {meaning}." in lines}
    assert {Judgement.WORSE, Judgement.INCONCLUSIVE} == explained
    assert "Strict: an inconclusive result fails too" in printed(STRICT)
    assert "Strict" not in printed(FAILED)


def test_with_power_the_needed_seeds_are_listed() -> None:
    text = printed(FAILED, power=True)
    assert "known seeds" not in printed(FAILED)
    rows = [re.split(r" {2,}", line) for line in text.splitlines() if line.startswith("pair init=shared  ")]
    assert ["pair init=shared", "3", "1.0", "12", "1,400"] == rows[1]
    assert "in 90 % of checks that an unchanged cell differs by less than 1 point" in text


def test_what_a_baseline_is_too_small_for_is_impossible_and_it_is_told_what_it_needs() -> None:
    lacking = replace(made_check(), fresh_seeds_needed=None, baseline_seeds_needed=4_728)
    text = printed(Gate(made_accuracy(lacking), None), power=True)
    assert "impossible" in text
    assert "pair init=shared: impossible with this baseline: it needs 4,728 seeds" in text


def test_a_second_look_and_a_suspicion_that_it_does_not_settle_are_told() -> None:
    looked = replace(made_check(differences=(-0.5, 0.2, -0.1), judgement=Judgement.INCONCLUSIVE), first_seeds=2)
    text = printed(Gate(made_accuracy(looked, other=OTHER), None), width=300)
    said = (
        "pair init=shared: the first seeds (2) suggested a change, so all 3 were compared; a drop is suspected and not"
    )
    assert said in text
    settled = replace(looked, judgement=Judgement.WORSE)
    assert "so all 3 were compared.\n" in printed(Gate(made_accuracy(settled), None), width=300)


def test_an_effect_larger_than_the_value_itself_is_none() -> None:
    vague = replace(made_check(), detectable_effect=0.88)
    assert "none" == row(printed(Gate(made_accuracy(vague), None)), "pair init=shared")[-1]


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_shows_numbers_whole(width: int) -> None:
    text = printed(FAILED, width)
    assert max(map(len, text.splitlines())) <= width
    for entry in ("87.0 ± 1.0", "-8.5 to -3.5", "2.1", "1.28 to 1.32", "inconclusive"):
        assert entry in text


# Markdown


def test_a_passed_check_has_its_details_folded() -> None:
    passed = gate_markdown(PASSED)
    assert passed.startswith("### made and speed: passed\n")
    assert "<summary>2 cells: 1 same, 1 equivalent</summary>\n\n| cell | baseline |" in passed
    assert 2 == passed.count("<details>") == passed.count("\n</details>\n")


def test_failures_come_first_and_are_bold_and_nothing_is_folded() -> None:
    lines = gate_markdown(FAILED).splitlines()
    assert "### made and speed: failed" == lines[0]
    assert "- pair init=shared: worse: -6.0 points (95 % interval -8.5 to -3.5)" == lines[2]
    assert not any("<details>" in line for line in lines)
    assert "| pair init=shared | 87.0 ± 1.0 | 81.0 ± 0.0 | -6.0 | -8.5 to -3.5 | **worse** | 2.1 |" in lines
    assert ["**inconclusive**", "**better**"] == re.findall(r"\*\*[^*]+\*\*", gate_markdown(STRICT))


def test_a_name_can_break_neither_the_table_nor_the_page() -> None:
    """Special characters are character references: each row keeps its columns, and reads as it was."""
    text = gate_markdown(NASTY_NAMES)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [8] * 6 == [line.count("|") for line in rows]  # seven columns
    assert not re.search(r"<(?!/?(details|summary)>)|`|\[|@|\x00", text)
    (line,) = (line for line in rows if "&#124;b" in line)
    shown = html.unescape(line.split(" | ")[0].removeprefix("| ")).replace("\u200b", "")
    assert " ".join(NASTY.replace("\x00", ESCAPED).split()) == shown


# JUnit


def parsed(gate: Gate) -> ET.Element:
    return ET.fromstring(junit_xml(gate))  # noqa: S314 - our own


def suites(gate: Gate) -> dict[str, ET.Element]:
    return {suite.get("name", ""): suite for suite in parsed(gate).findall("testsuite")}


def counts(element: ET.Element) -> list[str | None]:
    return [element.get(name) for name in ("tests", "failures", "skipped", "errors")]


def test_cells_and_benchmarks_are_cases_of_two_suites_with_their_times() -> None:
    found = suites(PASSED)
    cases = {
        name: [(c.get("classname"), c.get("name")) for c in suite.iter("testcase")] for name, suite in found.items()
    }
    assert {
        "fedbench.made": [("fedbench.made.pair", "pair init=shared"), ("fedbench.made.pair", "pair init=independent")],
        "fedbench.speed": [("fedbench.speed.training", "step[cnn-10]"), ("fedbench.speed.averaging", "average")],
    } == cases
    assert ["12.346", "200.000"] == [suite.get("time") for suite in found.values()]
    assert ("212.346", ["fedbench.speed"]) == (parsed(PASSED).get("time"), list(suites(SPEED_ALONE)))


@pytest.mark.parametrize("gate", GATES)
def test_the_counts_of_cases_are_right(gate: Gate) -> None:
    root = parsed(gate)
    for element in (root, *root.findall("testsuite")):
        there = [len(list(element.iter(name))) for name in ("testcase", "failure", "skipped", "error")]
        assert [str(number) for number in there] == counts(element)
    assert str(len(gate.failures)) == root.get("failures")


def test_a_failure_has_its_numbers_and_an_inconclusive_case_is_skipped_unless_it_fails() -> None:
    found = suites(FAILED)
    failure = found["fedbench.made"].find("testcase/failure")
    assert failure is not None
    assert "worse: -6.0 points (95 % interval -8.5 to -3.5)" == failure.get("message")
    assert "now 81.0 ± 0.0" in (failure.text or "")
    assert ["2", "1", "1", "0"] == counts(found["fedbench.made"])
    skipped = [each.get("message") for suite in found.values() for each in suite.iter("skipped")]
    assert ["one seed", "not clear after 9 sessions"] == skipped
    assert ["2", "2", "0", "0"] == counts(suites(STRICT)["fedbench.made"])


def test_commit_and_environment_are_properties_and_names_are_kept() -> None:
    properties = {each.get("name"): each.get("value") for suite in suites(PASSED).values() for each in suite[0]}
    assert ("c0ffee1" + 33 * "0", "; ".join(OTHER)) == (properties["baseline_commit"], properties["other_environment"])
    assert ("main", "a processor, 2 cores") == (properties["against"], properties["machine"])
    (case,) = suites(NASTY_NAMES)["fedbench.speed"].iter("testcase")
    assert NASTY.replace("\x00", "") == case.get("name")  # which XML cannot hold


# JSON


def test_the_json_has_fractions() -> None:
    document = gate_json(FAILED)
    cell, alone = document["accuracy"]["cells"]
    assert ("worse", "worse: -6.0 points (95 % interval -8.5 to -3.5)") == (cell["judgement"], cell["failure"])
    assert pytest.approx(-0.06) == cell["difference"]
    assert [0.86, 0.87, 0.88] == cell["baseline"]["values"]
    assert ([], None, "one seed") == (alone["ci95"], alone["now"]["std"], alone["reason"])
    assert [False, list(FAILED.failures)] == [document["passed"], document["failures"]]


def test_what_is_not_finite_or_was_not_checked_is_null() -> None:
    _, evaluate, _ = gate_json(FAILED)["speed"]["benchmarks"]
    assert [None] * 3 + [[]] == [evaluate[name] for name in ("before", "now", "ratio", "interval")]
    for gate in GATES:
        json.dumps(gate_json(gate), allow_nan=False)
    assert (None, None) == (gate_json(SPEED_ALONE)["accuracy"], gate_json(CHANGED)["speed"])
