"""Take the pictures of docs/images again.

``python tests/screenshots.py`` takes those of the MLflow UI: it runs the suite quickstart in a temporary folder, or
takes the store in the folder that is given. ``python tests/screenshots.py --reports FOLDER`` takes those of reports,
which ``fedbench report SUITE --out FOLDER/SUITE`` wrote.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
from browser import TABLE, close_assistant, component, fedbench_environment, fresh_page, open_view, show, ui
from browser import wait_for_runs as wait_for
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLOURS = 256  # in a picture's palette
# Of reports: the picture's name, the suite, the window's width and height, the colour scheme, and what is shown: the
# window from an element on, or if there is no height the element alone.
REPORTS = (
    ("report-mnist", "client-grid-mnist", 1280, 1000, "light", "h1"),
    ("report-mnist-rounds", "client-grid-mnist", 1280, 0, "light", "#accuracy-by-round"),
    ("report-mnist-phone", "client-grid-mnist", 390, 844, "dark", "#results"),
    ("report-ham10000", "client-grid-ham10000", 1280, 1000, "dark", "h1"),
    ("report-ham10000-classes", "client-grid-ham10000", 1280, 0, "dark", "#recall-by-class"),
    ("report-tuning", "quickstart.tuning", 1280, 0, "light", "[id$=each-field-by-itself]"),
    ("interpolation", "averaging-failure", 1000, 0, "light", "#loss-between-two-models"),
    ("recall-ham10000", "client-grid-ham10000", 1000, 0, "light", "#recall-by-class"),
    ("tuning-history", "quickstart.tuning", 700, 0, "light", "[id$=the-search-trial-by-trial]"),
)
# MLflow's own name for the button.
GROUP_BY = (
    "codegen_mlflow_app_src_experiment-tracking_components_experiment-page_components_runs_"
    "experimentviewrunsgroupbyselector.tsx_306"
)


def take(page: Page, name: str, part: Locator | None = None) -> None:
    page.mouse.move(0, 0)  # no tooltips
    seen = part or page
    shot, before = seen.screenshot(), b""
    while shot != before:  # until nothing moves any more
        shot, before = seen.screenshot(), shot
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    if part is None:
        picture = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(IMAGES / f"{name}.png", optimize=True)
    print(IMAGES / f"{name}.png")  # noqa: T201 - this is a script


def set_filter(page: Page, text: str) -> None:
    box = page.get_by_test_id("search-box")
    box.fill(text)
    box.press("Enter")


def take_all(page: Page, seeds: str, cells: str) -> None:
    page.goto(seeds)
    close_assistant(page)

    open_view(page, seeds, rows=25)
    for number in range(3):
        page.get_by_test_id("experiment-view-compare-runs-card").nth(number).locator(
            ".bartext, .xtitle"
        ).first.wait_for()
    take(page, "ui-charts")

    show(page, TABLE)
    page.get_by_text("averaging_gain", exact=True).wait_for()
    take(page, "ui-groups")

    component(page, GROUP_BY).get_by_role("button").click()  # the cross: no groups
    page.get_by_text("Group:").first.wait_for(state="detached")
    set_filter(page, "tags.`fedbench.kind` = 'run' and metrics.accuracy < 0.6")
    wait_for(page, 5)
    take(page, "ui-filter")

    set_filter(page, "tags.`fedbench.kind` = 'run' and tags.`fedbench.verdict` = 'collapsed'")
    wait_for(page, 0)  # as the page says

    set_filter(page, "tags.`fedbench.kind` = 'run' and tags.`fedbench.scenario` = 'more-data'")
    wait_for(page, 15)
    component(page, GROUP_BY).click()
    page.get_by_role("menuitemcheckbox", name="examples_per_client").click()
    page.keyboard.press("Escape")
    page.get_by_text("Group: 400").wait_for()
    take(page, "ui-parameter")

    open_view(page, cells, rows=5)
    page.get_by_text("accuracy/ci95_low", exact=True).wait_for()
    take(page, "ui-cells")

    run = page.get_by_role("link", name="two-models init=independent")
    run.click()
    page.get_by_text("Run ID").wait_for()
    page.get_by_role("button", name="Model training").click()  # leads back to the list, and is remembered
    open_view(page, cells, rows=5)
    run.click()
    page.get_by_role("link", name="two-models init=independent seed=0").wait_for()
    take(page, "ui-run")


def take_reports(folder: Path) -> None:
    with fresh_page() as first:
        browser = first.context.browser
        for name, suite, width, height, scheme, shown in REPORTS if browser else ():
            page = browser.new_page(viewport={"width": width, "height": height or 900}, color_scheme=scheme)
            page.goto((folder / suite / "report.html").resolve().as_uri())
            element = page.locator(shown).first
            element.evaluate("element => element.scrollIntoView()")
            take(page, name, None if height else element)
            page.close()


def main(folder: Path) -> None:
    if not (folder / "mlruns").exists():
        command = [sys.executable, "-m", "fedbench", "run", "quickstart"]
        subprocess.run(command, cwd=folder, env=fedbench_environment(), check=True)
    with ui("quickstart", folder=folder) as (seeds, cells), fresh_page() as page:
        take_all(page, seeds, cells)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--reports"]:
        take_reports(Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
