"""A suite as one tidy table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fedbench.reports.tables import export_suite
from fedbench.tracking.records import StoredSuite
from fedbench.util.errors import StoreError


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_there_is_a_row_for_each_run_and_round(stored: StoredSuite, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"made{suffix}"
    assert 4 * 3 * 2 + 2 * 3 == export_suite(stored, out)
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert 30 == len(table)
    chosen = table[(table.cell == "grid num_clients=3 examples_per_client=50") & (table.seed == 2)]
    assert [1, 2] == list(chosen["round"])
    assert pytest.approx([0.72, 0.82]) == list(chosen.accuracy)
    assert [3, 3] == list(chosen.num_clients)
    assert ["ok", "ok"] == list(chosen.verdict)
    assert not any(name.startswith("interpolation/") for name in table)
    assert [out] == list(tmp_path.iterdir())


def test_another_suffix_is_refused_in_one_line(stored: StoredSuite, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"it ends in .xlsx; choose .csv or .parquet"):
        export_suite(stored, tmp_path / "made.xlsx")
    assert [] == list(tmp_path.iterdir())
