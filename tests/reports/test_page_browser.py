"""The report in a real browser: every width and both colour schemes, by hand, by keyboard, and for a screen reader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import fresh_page
from browser import why_no_browser as why_not
from made_study import WIDE_SPACE, made_plan, made_result
from made_suite import MadeSource, made_suite, stored_suite

from fedbench.partitions.table import PartitionTable
from fedbench.reports.figure import Figure, Kind
from fedbench.reports.history import Check, History, Timing
from fedbench.reports.history_figures import write_history
from fedbench.reports.html import page_html, write_page
from fedbench.reports.page import make_report
from fedbench.reports.tuning_figures import study_figures
from fedbench.stats import Spread
from fedbench.tracking.records import StoredSuite
from fedbench.tuning.reading import StoredStudies, StoredStudy
from fedbench.tuning.study_records import study_json

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or "there is a browser"),
]

AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"  # of the npm package axe-core 4.14.1
EVIL = "</script><img src=x onerror=alert(1)>"
SUITE = """
name: made
question: What is shown?
seeds: [0, 1, 2]
scenarios:
  - {name: grid, num_clients: [3, 2], examples_per_client: [100, 20, 50], rounds: 3}
  - {name: pair, init: [shared, independent], rounds: 1, interpolation: true}
  - {name: target, learning_rate: [0.1, 0.05], rounds: 4, target_accuracy: 0.7}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredSuite:
    made = stored_suite(made_suite(tmp_path_factory.mktemp("suite"), SUITE))
    assert isinstance(made.source, MadeSource)
    run = made.cells[0].runs[0].run_id
    made.source.texts[run, "partition.csv"] = PartitionTable(
        ["0", "1"], ["cat", EVIL], np.array([[4, 0], [1, 9]])
    ).csv()
    return replace(made, name="=made", place="http://127.0.0.1:1")


@pytest.fixture(scope="module")
def address(stored: StoredSuite, tmp_path_factory: pytest.TempPathFactory) -> str:
    result = made_result(made_plan(space=WIDE_SPACE), count=30)
    document = study_json(result) | {"figures": [asdict(figure) for figure in study_figures(result)]}
    studies = StoredStudies((StoredStudy("0123456789abcdef", json.loads(json.dumps(document))),))
    return make_report(stored, tmp_path_factory.mktemp("report"), studies).as_uri()


@pytest.fixture(scope="module")
def first_page() -> Iterator[Page]:
    with fresh_page() as page:
        yield page


def opened(first_page: Page, address: str, **options: Any) -> tuple[Page, list[str]]:
    """The report in a new window, and what the browser complains of."""
    browser = first_page.context.browser
    assert browser is not None
    page = browser.new_page(**options)
    page.set_default_timeout(10_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url != address else None)
    page.goto(address)
    page.locator(".panel svg").last.wait_for()
    return page, errors


@pytest.fixture
def page(first_page: Page, address: str) -> Iterator[Page]:
    page, errors = opened(first_page, address, viewport={"width": 1280, "height": 900})
    yield page
    page.close()
    assert [] == errors


def flaws(page: Page, width: int) -> list[Any]:
    """What axe finds, and whether anything is too wide, is not drawn, or does not say that it scrolls."""
    page.evaluate(AXE.read_text("utf-8"))
    found: list[Any] = page.evaluate(
        "axe.run().then(found => found.violations.map(each => [each.id, each.nodes[0].html]))"
    )
    fits = page.evaluate("document.documentElement.scrollWidth") == width
    drawn = page.evaluate("[...document.querySelectorAll('figure')].every(each => each.querySelector('svg, table'))")
    scrolls = page.evaluate(
        "[...document.querySelectorAll('.wide')].every(each =>"
        " each.classList.contains('scrolls') === each.scrollWidth > each.clientWidth + 1)"
    )
    undrawn = page.get_by_text("This figure cannot be drawn").count()
    return found + [each for each in (fits, drawn, scrolls, undrawn == 0) if not each]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 900, 1920])
def test_the_page_fits_and_axe_finds_nothing(first_page: Page, address: str, width: int, scheme: Any) -> None:
    page, errors = opened(first_page, address, viewport={"width": width, "height": 800}, color_scheme=scheme)
    found = flaws(page, width)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    page.close()
    assert ([], [], scheme == "dark") == (found, errors, dark)


def test_the_history_is_such_a_page(first_page: Page, tmp_path: Path) -> None:
    """Two checks, of which the last one failed."""
    over = {"pair init=shared": Spread(0.8, 0.01, ())}
    checks = [
        Check(f"{count}", count, "made", f"{count}" * 40, count, "", "accuracy", failed, over, ratios={"step": 1.2})
        for count, failed in ((1, ()), (2, ("pair init=shared", "step")))
    ]
    timings = tuple(Timing("step", group, "a" * 40, 1, 1, 2.0) for group in ("one", "two", "three", "four"))
    path = write_history(History("made", tuple(checks), tuple(checks), timings), tmp_path)
    page, errors = opened(first_page, path.as_uri(), viewport={"width": 360, "height": 800})
    found = flaws(page, 360)
    accuracy = page.locator("#accuracy-by-commit")
    accuracy.get_by_role("slider").press("ArrowRight")
    assert "failed: yes" in (accuracy.get_by_role("slider").get_attribute("aria-valuetext") or "")
    assert 2 == accuracy.locator("svg").get_by_text(re.compile("^(1111111|2222222)$")).count()
    page.close()
    assert ([], []) == (found, errors)


def test_a_figure_of_many_charts_is_folded(first_page: Page, tmp_path: Path) -> None:
    rows = [{"panel": f"{number}", "x": "a", "y": 1.0} for number in range(25)]
    path = tmp_path / "many.html"
    write_page(page_html("many", "report", [Figure("P", "T", "C", Kind.DOTS, rows, "x", "y")]), path)
    page = first_page.context.browser.new_page()  # type: ignore[union-attr]
    page.goto(path.as_uri())
    assert 0 == page.locator(".panel svg").count()
    page.get_by_text("25 charts").click()
    page.locator(".panel svg").last.wait_for()
    assert 25 == page.locator(".panel svg").count()
    page.close()


def column(page: Page, number: int) -> list[str]:
    rows = page.locator("#cells tbody tr:visible")
    return [row.locator("th, td").nth(number).inner_text() for row in rows.all()]


def test_cells_are_sorted_by_number_by_mouse_and_by_keyboard(page: Page) -> None:
    head = page.get_by_role("columnheader", name="accuracy", exact=True)
    place = page.locator("#cells thead th").all_inner_texts().index("accuracy")
    head.get_by_role("button").click()
    means = [float(text.split()[0]) for text in column(page, place)]
    assert sorted(means, reverse=True) == means
    assert len(set(means)) > 2
    assert "descending" == head.get_attribute("aria-sort")
    head.get_by_role("button").press("Enter")
    assert sorted(means) == [float(text.split()[0]) for text in column(page, place)]
    assert 1 == page.locator("#cells [aria-sort]").count()


def test_cells_are_filtered_by_words_and_it_is_said_how_many_are_shown(page: Page) -> None:
    page.get_by_label("Show cells with").fill("CLIENTS=2 ok")
    assert 3 == len(column(page, 0))
    page.get_by_text("3 of 10 cells are shown.").wait_for()
    page.get_by_label("Show cells with").fill("")
    assert 10 == len(column(page, 0))


def test_each_seed_is_a_link_to_its_run(page: Page) -> None:
    link = page.get_by_role("link", name="pair init=shared, seed 2 in MLflow")
    assert "http://127.0.0.1:1/#/runs/pair%20init%3Dshared%202" == link.get_attribute("href")


def test_the_legend_takes_lines_out_and_says_when_none_is_left(page: Page) -> None:
    figure = page.locator("#loss-between-two-models")
    lines = figure.locator(".panel svg path[stroke], .panel svg [stroke^='var(--s'] path")
    both = lines.count()
    figure.get_by_label("shared").press("Space")
    assert 0 < lines.count() < both
    figure.get_by_label("independent").uncheck()
    figure.get_by_text("Nothing is selected.").wait_for()
    figure.get_by_label("shared").check()
    assert 1 == figure.locator(".panel svg").count()


def test_a_point_under_the_mouse_shows_its_numbers(page: Page) -> None:
    panel = page.locator("#accuracy-by-round .panel").first
    assert not panel.get_by_text("seeds: 3").is_visible()
    panel.locator("circle").first.hover(force=True)
    panel.get_by_text("seeds: 3").wait_for()
    assert "round: 1" in panel.locator(".tip").inner_text()
    page.mouse.move(0, 0)
    panel.get_by_text("seeds: 3").wait_for(state="hidden")


def test_arrow_keys_step_through_the_points_of_a_chart_and_say_what_the_tip_shows(page: Page) -> None:
    panel = page.locator("#accuracy-by-round .panel").first
    slider = panel.get_by_role("slider", name=re.compile("^Accuracy by round, grid: .*: points$"))

    def said() -> tuple[str, ...]:
        panel.locator(".tip").wait_for()
        words = panel.locator(".tip").inner_text().split("\n")
        assert "; ".join(words) == slider.get_attribute("aria-valuetext")
        return tuple(each.rpartition(" ")[2] for each in words[:3])  # cell, round and accuracy

    slider.focus()
    assert ("20", "1", "61") == said()
    slider.press("ArrowRight")
    assert ("20", "2", "71") == said()
    slider.press("ArrowDown")  # the next line, in the same round
    assert ("50", "2", "71") == said()
    slider.press("ArrowDown")  # there is no other
    slider.press("Home")
    assert ("20", "1", "61") == said()
    slider.blur()
    assert not panel.locator(".tip").is_visible()


def test_on_a_phone_the_title_comes_before_the_contents_which_are_folded(first_page: Page, address: str) -> None:
    page, _ = opened(first_page, address, viewport={"width": 360, "height": 800})
    entry = page.get_by_role("link", name="Provenance")
    assert not entry.is_visible()
    page.get_by_text("Contents", exact=True).click()
    title, contents = (page.locator(each).bounding_box() for each in ("h1", "nav"))
    assert title
    assert contents
    assert title["y"] < contents["y"]
    entry.click()
    page.set_viewport_size({"width": 1280, "height": 800})
    entry.wait_for()
    page.close()


def test_numbers_are_a_table_and_a_csv_that_no_spreadsheet_computes(page: Page) -> None:
    figure = page.locator("#examples-by-client-and-class")
    with page.expect_download() as saved:
        figure.get_by_role("button", name="Save the numbers").click()
    assert "=made-fedbench-report-examples-by-client-and-class.csv" == saved.value.suggested_filename
    panel = "grid num_clients=3 examples_per_client=100 (label skew 0.45)"
    lines = Path(saved.value.path()).read_text().splitlines()
    assert ["panel,class,client,examples", f"{panel},cat,0,4", f"{panel},{EVIL},0,0"] == lines[:3]
    figure = page.locator("#loss-by-round")
    figure.get_by_text(re.compile("^Numbers")).click()
    figure.locator("tbody tr").first.wait_for()
    figure.get_by_text(f"Numbers ({figure.locator('tbody tr').count()} rows)").wait_for()
    with page.expect_download() as saved:
        figure.get_by_role("button", name="as SVG").click()
    svg = Path(saved.value.path()).read_text()
    assert svg.startswith("<svg")
    assert "var(--s" not in svg


def test_print_shows_figures_and_tables_and_no_controls(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 with margins of 1 cm
    assert 718 == page.evaluate("document.documentElement.scrollWidth")  # no column is cut off
    for hidden in ("nav", ".tools", ".filter", "details"):
        assert not page.locator(hidden).first.is_visible()
    assert page.locator("figure svg").first.is_visible()
    assert "rgb(255, 255, 255)" == page.evaluate("getComputedStyle(document.body).backgroundColor")
