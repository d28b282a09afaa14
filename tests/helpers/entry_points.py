"""Packages that offer parts, by their metadata alone."""

from __future__ import annotations

from pathlib import Path

import pytest


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, **entries: str) -> None:
    """The metadata of a package with entry points, on the search path; their names have a dot for the first ``_``."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name.replace('_', '.', 1)} = {target}" for name, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[fedbench.components]", *lines, ""]))
    monkeypatch.syspath_prepend(folder)
