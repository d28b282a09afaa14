"""The colours of a report's series: apart for every kind of sight, and visible on the page."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedbench.reports import page

# Linear RGB as it is seen without one kind of cones (Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113).
SIGHTS = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65
LEAST = 25  # CIE76; a just noticeable difference is about 2.3


def schemes() -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The series' colours and the page's, as linear RGB, in the light and in the dark."""
    text = Path(page.__file__).with_name("page.css").read_text()
    found = []
    for block in text.split("@media")[:2]:
        series = re.findall(r"--s\d: (#\w{6});", block)
        (ground,) = re.findall(r"--page: (#\w+);", block)
        found.append((linear(series), linear([ground if len(ground) == 7 else "#ffffff"])))
    return found


def linear(colours: list[str]) -> NDArray[np.float64]:
    values = np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    xyz = np.clip(colours, 0, 1) @ TO_XYZ.T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_series_differ_for_every_kind_of_sight(sight: str) -> None:
    for series, _ in schemes():
        seen = lab(series @ np.array(SIGHTS[sight]).T)
        assert len(seen) == 8
        assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) > LEAST


def test_each_series_stands_out_from_the_page() -> None:
    for series, ground in schemes():
        light = TO_XYZ[1]
        low, high = np.minimum(series @ light, ground @ light), np.maximum(series @ light, ground @ light)
        assert ((high + 0.05) / (low + 0.05)).min() >= 2.95  # WCAG asks for 3 of what is needed to understand
