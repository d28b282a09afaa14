"""A check as a table, as Markdown and as JSON."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from made_gate import CHANGED, FAILED, GATES, NASTY, NASTY_NAMES, OTHER, PASSED, SPEED_ALONE, STRICT
from rich.console import Console

from fedbench.gate.checks import MEANINGS, Gate, Judgement
from fedbench.gate.markdown import gate_markdown
from fedbench.gate.table import gate_json, gate_table


def printed(gate: Gate, width: int = 160, power: bool = False) -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(gate_table(gate, power))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def row(text: str, name: str) -> list[str]:
    """The entries of the row that begins so."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name}  "))
    return re.split(r" {2,}", line)


# The table


def test_a_cell_is_a_row_of_percent_and_points_with_the_judgement() -> None:
    expected = ["pair init=shared", "87.0 ± 1.0", "81.0 ± 0.0", "-6.0", "-8.5 to -3.5", "worse", "2.1"]
    assert expected == row(printed(FAILED), "pair init=shared")


def test_a_single_seed_has_no_deviation_and_no_interval_and_the_reason_is_below() -> None:
    text = printed(FAILED)
    assert ["pair init=independent", "86.0", "87.0", "+1.0", "can't tell"] == row(text, "pair init=independent")
    assert "pair init=independent: one seed." in text.splitlines()


def test_a_benchmark_is_a_row_of_times_with_ratio_interval_and_samples() -> None:
    expected = ["step[cnn-10]", "20.0 ms", "26.0 ms", "1.30", "1.28 to 1.32", "120", "slower"]
    assert expected == row(printed(FAILED), "step[cnn-10]")
    assert ["evaluate", "fails"] == row(printed(FAILED), "evaluate")
    assert ["step", "0.02x", "0.02x", "1.02"] == row(printed(SPEED_ALONE), "step")[:4]


@pytest.mark.parametrize("gate", GATES)
def test_the_last_lines_say_that_it_passed_or_what_failed(gate: Gate) -> None:
    last = printed(gate, width=1000).splitlines()[-max(len(gate.failures), 1) :]
    expected = [f"failed: {' '.join(each.replace(chr(0), ' ').split())}" for each in gate.failures] or ["passed"]
    assert expected == last


def test_where_the_first_bit_changed_is_said_also_of_a_cell_that_is_otherwise_in_order() -> None:
    text = printed(CHANGED)
    assert "equivalent, bits changed" in row(text, "pair init=independent")
    where = "3 of 3 seeds, first in seed 0: round 2, client 1"
    assert f"pair init=independent: bits changed in {where}." in text
    assert f"failed: pair init=independent: changed: {where}" == text.splitlines()[-1]


def test_the_notes_name_margin_baseline_and_what_is_other_than_it_was() -> None:
    text = printed(PASSED)
    assert "Margin: 1 point. Baseline: commit c0ffee1." in text
    assert all(words in text for words in OTHER)
    assert "The environment is the baseline's: every bit of the seeds that both have is compared." in printed(FAILED)
    assert "Against main (commit c0ffee1): median times of a call." in text


def test_the_judgements_that_occur_are_explained_and_no_others() -> None:
    lines = printed(FAILED).splitlines()
    explained = {judgement for judgement, meaning in MEANINGS.items() if f"{judgement}: {meaning}." in lines}
    assert {Judgement.WORSE, Judgement.CANNOT_TELL} == explained


def test_a_strict_check_says_that_it_is_one() -> None:
    assert "Strict: what cannot be told fails too" in printed(STRICT)
    assert "Strict" not in printed(FAILED)


def test_with_power_the_seeds_that_are_needed_are_listed() -> None:
    text = printed(FAILED, power=True)
    assert "known seeds" not in printed(FAILED)
    rows = [re.split(r" {2,}", line) for line in text.splitlines() if line.startswith("pair init=shared  ")]
    assert ["pair init=shared", "3", "1.0", "12", "1,400"] == rows[1]
    assert "in 90 % of cases, that an unchanged cell differs by less than 1 point" in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_cuts_no_number_off(width: int) -> None:
    text = printed(FAILED, width)
    assert max(map(len, text.splitlines())) <= width
    for entry in ("87.0 ± 1.0", "-8.5 to -3.5", "2.1", "1.28 to 1.32", "can't tell"):
        assert entry in text


# Markdown


def test_the_headline_has_the_verdict_and_the_details_are_folded_if_all_is_well() -> None:
    passed = gate_markdown(PASSED)
    assert passed.startswith("### made and speed: passed\n")
    assert "<summary>2 cells: 1 same, 1 equivalent</summary>\n\n| cell | baseline |" in passed
    assert 2 == passed.count("<details>") == passed.count("\n</details>\n")


def test_what_failed_comes_first_and_nothing_is_folded() -> None:
    lines = gate_markdown(FAILED).splitlines()
    assert "### made and speed: failed" == lines[0]
    assert "- pair init=shared: worse: -6.0 points (95 % interval -8.5 to -3.5)" == lines[2]
    assert not any("<details>" in line for line in lines)
    assert "| pair init=shared | 87.0 ± 1.0 | 81.0 ± 0.0 | -6.0 | -8.5 to -3.5 | **worse** | 2.1 |" in lines


def test_what_fails_a_strict_check_is_bold() -> None:
    assert ["**can't tell**", "**better**"] == re.findall(r"\*\*[^*]+\*\*", gate_markdown(STRICT))


def test_a_name_can_break_neither_the_table_nor_the_page() -> None:
    """What is special is written as a character's number: each row keeps its columns, and reads as it was."""
    text = gate_markdown(NASTY_NAMES)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [8] * 6 == [line.count("|") for line in rows]  # seven columns
    assert not re.search(r"<(?!/?(details|summary)>)|`|\[|@|\x00", text)
    (line,) = (line for line in rows if "&#124;b" in line)
    shown = html.unescape(line.split(" | ")[0].removeprefix("| ")).replace("\u200b", "")
    assert " ".join(NASTY.replace("\x00", " ").split()) == shown


# JSON


def test_the_json_has_the_numbers_as_fractions() -> None:
    document = gate_json(FAILED)
    cell, alone = document["accuracy"]["cells"]
    assert ("worse", "worse: -6.0 points (95 % interval -8.5 to -3.5)") == (cell["judgement"], cell["failure"])
    assert pytest.approx(-0.06) == cell["difference"]
    assert [0.86, 0.87, 0.88] == cell["baseline"]["values"]
    assert ([], None, "one seed") == (alone["ci95"], alone["now"]["std"], alone["reason"])
    assert [False, list(FAILED.failures)] == [document["passed"], document["failures"]]


def test_what_is_not_a_finite_number_is_null() -> None:
    _, evaluate, _ = gate_json(FAILED)["speed"]["benchmarks"]
    assert [None] * 3 + [[]] == [evaluate[name] for name in ("before", "now", "ratio", "interval")]
    for gate in GATES:
        json.dumps(gate_json(gate), allow_nan=False)


def test_what_was_not_checked_is_null() -> None:
    assert (None, None) == (gate_json(SPEED_ALONE)["accuracy"], gate_json(CHANGED)["speed"])
    assert not gate_json(replace(STRICT, is_strict=False))["strict"]
