"""Matplotlib without a screen, and a style. Import it before Matplotlib."""

from __future__ import annotations

import os
import tempfile
from typing import Any

# Before Matplotlib is imported: else it leaves its list of fonts in the home folder.
_font_cache = tempfile.TemporaryDirectory(
    prefix="fedbench-fonts-", ignore_cleanup_errors=True
)  # lives as long as we do
os.environ.setdefault("MPLCONFIGDIR", _font_cache.name)

import matplotlib as mpl  # noqa: E402
from cycler import cycler  # noqa: E402

mpl.use("agg")  # before pyplot: a report is made without a screen

STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 9,
    "text.parse_math": False,  # a name may have a "$"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.prop_cycle": cycler(  # Okabe and Ito's colours, which the colour-blind tell apart
        color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
    ),
}
