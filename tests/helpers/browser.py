"""`fedbench ui` and MLflow's pages in a real browser: for tests, and for the pictures in docs/images."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PACKAGE = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
PATIENCE = 60_000  # milliseconds to wait for what a page should show
CHARTS, TABLE = "CHART", "TABLE"  # the two ways MLflow shows the runs of an experiment

# The text of each row of MLflow's table, by column. The table keeps the left columns in a part of their own, and begins
# a name with its colour's code, unseen.
READ_ROWS = r"""() => {
    const rows = {};
    for (const row of document.querySelectorAll('.ag-row')) {
        const cells = rows[row.getAttribute('row-index')] ??= {};
        for (const cell of row.querySelectorAll('.ag-cell')) {
            const text = cell.innerText.replace(/^#[0-9a-f]{6}\s/, '').replace(/\s+/g, ' ').trim();
            cells[cell.getAttribute('col-id')] = text;
        }
    }
    return Object.keys(rows).sort((a, b) => a - b).map(index => rows[index]);
}"""


def why_no_browser() -> str | None:
    """What is missing to open a page; None if nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install playwright"
    if not _executable():
        return "no Chromium was found: install the package chromium"
    return None


def _executable() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def fresh_page(width: int = 1440, height: int = 900) -> Iterator[Page]:
    """A page of a browser with a new, empty profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A sandbox of the browser's own is more than many containers allow; it shows our own server's pages only.
        browser = playwright.chromium.launch(executable_path=_executable(), args=QUIET.split(), chromium_sandbox=False)
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(PATIENCE)
            yield page
        finally:
            browser.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def fedbench_environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(PACKAGE), "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"} | more


def start_ui(*arguments: str, folder: Path, workers: int = 1, **variables: str) -> subprocess.Popen[str]:
    """Start `fedbench ui` in `folder`; FEDBENCH_TEST marks all processes of it.

    Its server has four `workers` as it comes, each of which imports MLflow; one answers a test as well.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "fedbench", "ui", *arguments],
        cwd=folder,
        env=fedbench_environment(FEDBENCH_TEST=str(folder), MLFLOW_WORKERS=str(workers), **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def ui(*arguments: str, folder: Path) -> Iterator[list[str]]:
    """Run `fedbench ui`; gives the addresses that it printed."""
    process = start_ui(*arguments, "--port", str(free_port()), folder=folder)
    try:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        addresses = re.findall(r"http://\S+", printed)
        assert addresses, f"no address in {printed!r}"
        yield addresses
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def close_assistant(page: Page) -> None:
    """Close the panel that MLflow opens on the first page that a new profile loads."""
    component(page, "mlflow.assistant.chat_panel.close").click()


def component(page: Page, name: str) -> Locator:
    """A control by MLflow's own name for it."""
    return page.locator(f'[data-component-id="{name}"]')


def open_view(page: Page, address: str, rows: int) -> None:
    """Open a view and wait until MLflow says that it found `rows` runs."""
    page.goto("about:blank")  # a change of what follows the # alone would not reload the page
    page.goto(address)
    wait_for_runs(page, rows)


def wait_for_runs(page: Page, rows: int) -> None:
    page.get_by_text(re.compile(rf"^{rows} matching runs?$")).wait_for()


def show(page: Page, mode: str) -> None:
    """Switch between the charts and the table."""
    page.locator(f'label:has(input[type="radio"][value="{mode}"])').click()


def read_rows(page: Page, rows: int) -> list[dict[str, str]]:
    """The table's rows once there are `rows` of them; a column's key is MLflow's own, such as metrics.`accuracy`."""
    page.wait_for_function(f"(wanted) => ({READ_ROWS})().length === wanted", arg=rows)
    return list(page.evaluate(READ_ROWS))
