"""The report: one page that needs no network and runs nobody else's code."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html import unescape
from pathlib import Path

import pytest
from made_suite import ONE_CELL, MadeSource, made_suite, metrics_of, stored_suite

from fedbench.measures import Verdict
from fedbench.reports import page
from fedbench.reports.figure import Figure, Kind
from fedbench.reports.page import make_report, render
from fedbench.reports.sentences import sentences
from fedbench.suites.schema import RunSpec
from fedbench.tracking.records import StoredSuite

DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
EVIL = "</script><script>alert(1)</script><b title='\"'>&"


@pytest.fixture(scope="module")
def report(stored: StoredSuite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_report(stored, tmp_path_factory.mktemp("report") / "new" / "folder")


def own_text(page: str) -> str:
    """The page without the libraries that it carries."""
    return re.sub(r"<!--.*?-->", "", SCRIPT.sub("", page), flags=re.DOTALL)


def test_the_page_is_one_file_that_refers_to_nothing_outside_itself(report: Path) -> None:
    text = report.read_text()
    assert ["report.html"] == [path.name for path in report.parent.iterdir()]
    assert [] == re.findall(r"(?:src|href)=\"(?!data:|#)", own_text(text))
    assert "http" not in own_text(text).replace('http-equiv="Content', "")
    assert len(text) < 1_500_000


def test_only_the_pages_own_scripts_run(report: Path) -> None:
    """The browser compares each script with the policy; what a store has in a name is in none."""
    text = report.read_text()
    allowed = re.findall(r"'sha256-([^']+)'", unescape(text))
    digests = [b64encode(sha256(script.encode()).digest()).decode() for script in SCRIPT.findall(text)]
    assert (4, allowed) == (len(digests), digests)
    assert "default-src 'none'; script-src &#39;sha256-" in text


def test_what_a_page_carries_of_others_is_what_they_published() -> None:
    """The SHA-256 of `npm pack d3@7.9.2` and `npm pack @observablehq/plot@0.6.17`, of which these are the files."""
    vendor = Path(page.__file__).with_name("vendor")
    digests = {path.name: sha256(path.read_bytes()).hexdigest() for path in vendor.glob("*.js")}
    assert {
        "d3.min.js": "912111098ea99503a6f4967361d2bbdc9dbf58cf9c678c8e27e5b02d1a07f0c1",
        "plot.umd.min.js": "4358086467740777dd788d6b27a95cebdbaefdd50c730a3060117073bd7134cb",
    } == digests


def test_every_figure_has_its_place_and_its_entry_in_the_contents(report: Path) -> None:
    text = report.read_text()
    names = [figure["name"] for figure in json.loads(DATA.findall(text)[0])]
    assert len(names) > 10
    for name in [*names, "summary", "results", "provenance"]:
        assert 1 == text.count(f' id="{name}"')
        assert 1 == text.count(f'<a href="#{name}">')


def test_text_from_a_store_is_no_markup_and_no_script(stored: StoredSuite) -> None:
    other = replace(stored, name=EVIL, question=EVIL, place=f"https://{EVIL}")
    evil = [Figure("By <i>", f"Title {EVIL}", EVIL, Kind.DOTS, [{"p": EVIL, "x": EVIL, "y": 1.0}], "x", "y")]
    text = render(other, evil)
    assert "<script>alert" not in text
    assert "<b title" not in text
    assert "<i>" not in own_text(text)
    assert EVIL == json.loads(DATA.findall(text)[0])[0]["rows"][0][0]


@pytest.mark.parametrize(
    ("place", "link"),
    [
        ("https://me:***@host:5000/mlflow/", "https://host:5000/mlflow/#/runs/pair%20init%3Dshared%200"),
        ("http://host", "http://host/#/runs/pair%20init%3Dshared%200"),
        ("sqlite:///made.db", None),
        ("javascript://host/%0aalert(1)", None),
        ("databricks", None),
    ],
)
def test_each_seed_links_to_its_run_on_a_server(stored: StoredSuite, place: str, link: str | None) -> None:
    links = re.findall(
        r'<a href="([^#"][^"]*)" aria-label="pair init=shared, seed 0', render(replace(stored, place=place), [])
    )
    assert ([link] if link else []) == links


def test_the_page_has_the_question_and_every_cell_with_its_numbers(report: Path, stored: StoredSuite) -> None:
    text = report.read_text()
    assert "What is shown?" in text
    for cell in stored.cells:
        assert f">{cell.label}<" in text
    assert ">71.0 ±\u00a01.0<" in text  # 2 clients: 70, 71 and 72 %
    assert ">68.5 to 73.5<" in text  # 71 ± 4.303 · 1 / √3
    assert ">+2.1 ±\u00a00.1<" in text  # the gains 0.020, 0.021 and 0.022


def test_the_summary_names_the_best_cell_and_what_averaging_gained(stored: StoredSuite) -> None:
    words = list(sentences(stored.cells))
    best = "grid num_clients=3 examples_per_client=20 has the highest accuracy, 81.0 ± 1.0 % (3 seeds); "
    lowest = "grid num_clients=2 examples_per_client=50 has the lowest, 71.0 ± 1.0 % (3 seeds)."
    assert words[0] == f"{best}{lowest}"
    assert "better than the clients' own models in 4 of 4 cells, worse in 0, inconclusive in 0" in words[1]
    better = "the average is worse than both models in 0 of 3 seeds, between them in 0, better than both in 3."
    assert f"pair init=independent: {better}" in words
    assert words[-1].startswith("Every run is ok")


def test_one_seed_has_no_spread(stored: StoredSuite) -> None:
    shown = [replace(cell, runs={0: cell.runs[0]}) for cell in stored.cells[0:3:2]]
    words = next(iter(sentences(shown)))
    assert "71.0 ± " not in words
    assert "(one seed)" in words


def test_cells_of_one_accuracy_have_no_best_among_them(tmp_path: Path) -> None:
    text = ONE_CELL.replace("rounds: 2", "rounds: 1, learning_rate: [0.1, 0.2]").replace("[0, 1]", "[0]")
    words = list(sentences(stored_suite(made_suite(tmp_path, text)).cells))
    assert words[0] == "a: the mean accuracies of 2 cells agree to a tenth of a point, 60.0 %."


def test_a_cell_below_the_majority_is_coloured_and_explained(tmp_path: Path) -> None:
    below = (Verdict.BELOW_MAJORITY, "too few")
    stored = stored_suite(made_suite(tmp_path, ONE_CELL), verdict=lambda _: below)
    page = make_report(stored, tmp_path / "out").read_text()
    assert 'class="text below majority">below majority 2/2<' in page
    assert ".below, .collapsed {" in page
    assert '<b class="below majority">below majority</b>: the model tells classes apart' in page


def test_a_collapsed_cell_is_named_in_the_summary_and_in_the_table(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, ONE_CELL.replace("Why?", "Why <b>?"))
    collapsed = (Verdict.COLLAPSED, "predicts class 0 for every image")
    page = make_report(stored_suite(suite, verdict=lambda _: collapsed), tmp_path / "out").read_text()
    assert "a: collapsed, 2 of 2 seeds: predicts class 0 for every image." in page
    assert 'class="text collapsed">collapsed 2/2<' in page
    assert "Why &lt;b&gt;?" in page  # what a suite's author writes is text, not markup
    assert "not skill" in page


def test_a_diverged_cell_has_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, ONE_CELL.replace("rounds: 2", "rounds: 2, interpolation: true"))

    def infinite(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"loss": float("inf"), "client_drift": float("nan")}

    stored = stored_suite(suite, infinite, lambda _: (Verdict.DIVERGED, "loss not finite"))
    page = make_report(stored, tmp_path / "out").read_text()
    assert "a: diverged, 2 of 2 seeds: loss not finite." in page
    assert 2 == page.count(">not finite<")
    assert not re.search(r"\bnan\b", own_text(page), re.IGNORECASE)


def test_a_suite_in_which_nothing_was_measured_has_a_page(tmp_path: Path) -> None:
    failed = (Verdict.FAILED, "RuntimeError: no memory")
    stored = stored_suite(made_suite(tmp_path, ONE_CELL), lambda *_: {}, lambda _: failed)
    text = make_report(stored, tmp_path / "out").read_text()
    assert [[]] == [json.loads(found) for found in DATA.findall(text)]
    assert "a: failed, 2 of 2 seeds: RuntimeError: no memory." in text


def test_a_missing_artifact_does_not_stop_a_report(tmp_path: Path) -> None:
    other = stored_suite(made_suite(tmp_path, ONE_CELL.replace("rounds: 2}", "rounds: 1}, {name: b, rounds: 1}")))
    assert isinstance(other.source, MadeSource)
    del other.source.texts[other.cells[0].runs[0].run_id, "confusion.csv"]
    page = make_report(other, tmp_path / "out").read_text()
    assert "Gone from the store: the confusion matrices of a." in page
    assert "Gone from the store: the partitions of a." in page


def test_an_interval_stays_within_what_is_possible(tmp_path: Path) -> None:
    def apart(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"accuracy": 0.999 if run.seed else 0.9}

    stored = stored_suite(made_suite(tmp_path, ONE_CELL), apart)
    spread = stored.cells[0].final("accuracy")
    assert spread is not None
    assert spread.interval is not None
    assert spread.interval[1] > 1
    assert " to 100.0<" in render(stored, [])


def test_what_aligned_models_recover_is_in_the_table_and_the_summary(tmp_path: Path) -> None:
    """Gaps of 20, 10 and 15 points of which 18, 7 and 11 are recovered: 36 of 45. From a shared start there is none."""

    def of_aligned(run: RunSpec, step: int) -> dict[str, float]:
        gap, found = [(0.20, 0.18), (0.10, 0.07), (0.15, 0.11)][run.seed]
        plain_gain = -gap if run.spec.init == "independent" else 0.01
        return metrics_of(run, step) | {"averaging_gain": plain_gain + found, "plain_gain": plain_gain}

    text = ONE_CELL.replace("rounds: 2", "init: [shared, independent]").replace("[0, 1]", "[0, 1, 2]")
    stored = stored_suite(made_suite(tmp_path, text), of_aligned)
    shared, independent = stored.cells
    assert shared.result.recovered is None
    assert independent.result.recovered is not None
    assert pytest.approx(0.8) == independent.result.recovered.ratio
    low, high = (f"{100 * end:.0f}" for end in (independent.result.recovered.low, independent.result.recovered.high))
    page = make_report(stored, tmp_path / "out").read_text()
    assert f">80 ({low} to {high})<" in page
    assert ">no gap<" in page
    words = list(sentences(stored.cells))
    assert any(f"init=independent: the average recovers 80 % (95 % interval {low} to {high})" in each for each in words)
    assert any("in 1 of 2 cells with aligned models there is no gap to recover" in each for each in words)
