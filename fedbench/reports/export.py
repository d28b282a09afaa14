"""Writes a suite's runs as one tidy table: a row for each run and round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from fedbench.reports.tables import table_of_rounds
from fedbench.tracking.records import StoredSuite
from fedbench.util.errors import StoreError
from fedbench.util.files import plain_errors, replacing

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # beginnings
WRITERS: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    ".csv": lambda table, file: table.map(_no_formula).to_csv(file, index=False),
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
}


def export_suite(stored: StoredSuite, out: Path) -> int:
    """Write a suite's runs to `out` in the format of its suffix, and return the number of rows.

    See `fedbench.reports.tables.table_of_rounds`.

    Raises
    ------
    StoreError
        If the suffix is unknown, or the runs cannot be read.
    DataError
        If the file cannot be written.
    """
    require_known_suffix(out)
    table = table_of_rounds(stored)
    with plain_errors(f"{out} cannot be written"), replacing(out) as file:
        WRITERS[out.suffix](table, file)
    return len(table)


def _no_formula(cell: object) -> object:
    """Text that a spreadsheet would compute, after an apostrophe that it takes for the sign of text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def require_known_suffix(out: Path) -> None:
    """Raise `StoreError` if `out` is in no known format."""
    if out.suffix not in WRITERS:
        raise StoreError(f"--out {out}: it ends in {out.suffix or 'nothing'}; choose {' or '.join(WRITERS)}")
