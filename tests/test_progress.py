"""Progress on standard error: a line that fits its terminal, sparse lines in a log."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from fedbench.util import progress as module
from fedbench.util.progress import LOG_EVERY_SECONDS, phase, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    """The lines that a terminal of this width is sent, without colours and movements."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    module._console.cache_clear()
    with progress("quickstart", 25, "runs") as advance:
        phase("loading PyTorch and MLflow")
        time.sleep(0.7)  # a line is drawn twice a second
        advance(3, "more-data examples_per_client=25")
        phase("computing", 75.4)
        time.sleep(0.7)
    module._console.cache_clear()
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.getvalue()))


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            100,
            [
                "quickstart  0/25 runs  loading PyTorch and MLflow",
                "quickstart  3/25 runs  computing  about 75 s left  more-data examples_per_client=25",
            ],
        ),
        (
            60,
            [
                "quickstart  0/25 runs  loading PyTorch and MLflow",
                "quickstart  3/25 runs  computing  about 75 s left",
            ],
        ),
        (40, ["quickstart  0/25 runs", "quickstart  3/25 runs  computing"]),
    ],
)
def test_a_terminal_shows_count_phase_and_time_left_as_far_as_they_fit(
    monkeypatch: pytest.MonkeyPatch, columns: int, lines: list[str]
) -> None:
    found = drawn(monkeypatch, columns)
    assert all(len(line) <= columns for line in found)
    for line in lines:
        assert any(each.strip("\u2800\u2801\u2802 ").endswith(line) for each in found), found


def test_a_log_gets_a_line_now_and_then_and_none_for_short_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress("quickstart", 25, "runs") as advance, progress("checking", 0):
        phase("loading MLflow")
        now += LOG_EVERY_SECONDS + 1
        phase("setting up the store")
        now += LOG_EVERY_SECONDS + 1
        advance(3)
    assert ["checking: (setting up the store)", "quickstart: 3/25 runs (about 3.9 min left)"] == capsys.readouterr()[
        1
    ].splitlines()
