"""A page of figures: one HTML file that needs no network and runs no scripts but its own."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from fedbench.reports.figure import Figure, figure_json
from fedbench.util.files import plain_errors, replacing

SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "charts.js", "page.js")  # in the order in which they run


def page_html(
    name: str, kind: str, figures: Sequence[Figure], elsewhere: Sequence[Figure] = (), **sections: object
) -> str:
    """The page of `name`, which is a report or the like.

    Parameters
    ----------
    figures
        By parts of the page.
    elsewhere
        Figures to which sections give a place.
    sections
        What else the template shows; it leaves out what is missing.
    """
    loader = PackageLoader("fedbench.reports", ".")
    environment = Environment(loader=loader, autoescape=select_autoescape(["jinja"]))
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    scripts = [_own_file(path) for path in SCRIPTS]
    parts: dict[str, list[Figure]] = defaultdict(list)
    for figure in figures:
        parts[figure.part].append(figure)
    return environment.get_template("page.html.jinja").render(
        sections,
        name=name,
        kind=kind,
        parts=parts,
        data=[figure_json(figure) for figure in (*figures, *elsewhere)],
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - the package's own files
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        licence=_own_file("vendor/LICENSE"),
    )


def write_page(html: str, path: Path) -> None:
    """Write a page; its folder is created.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    with plain_errors(f"{path} cannot be written"), replacing(path, sync=False) as file:
        file.write(html.encode())


def _own_file(path: str) -> str:
    return (files("fedbench.reports") / path).read_text("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
