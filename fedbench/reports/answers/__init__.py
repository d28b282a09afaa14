"""Answers to a suite's question: its cells compared along each axis, in numbers and in sentences. Pure functions."""

from fedbench.reports.answers.compare import answer_all
from fedbench.reports.answers.records import Answer, Pair, Setting
from fedbench.reports.answers.text import answer_lines, answers_json, answers_text, cell_answers

__all__ = ["Answer", "Pair", "Setting", "answer_all", "answer_lines", "answers_json", "answers_text", "cell_answers"]
