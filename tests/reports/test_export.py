"""A suite as one tidy table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fedbench.reports.export import export_suite
from fedbench.reports.reading import read_suite
from fedbench.util.errors import StoreError

READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


@pytest.mark.parametrize("ending", READERS)
def test_there_is_a_row_for_each_run_and_round(made: str, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"made{ending}"
    assert 4 * 3 * 2 + 2 * 3 == export_suite(read_suite("made", made), out)
    table = READERS[ending](out)  # type: ignore[operator]
    assert 30 == len(table)
    chosen = table[(table.cell == "grid num_clients=3 examples_per_client=50") & (table.seed == 2)]
    assert [1, 2] == list(chosen["round"])
    assert pytest.approx([0.72, 0.82]) == list(chosen.accuracy)
    assert [3, 3] == list(chosen.num_clients)
    assert ["ok", "ok"] == list(chosen.verdict)
    assert not any(name.startswith("interpolation/") for name in table)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_another_ending_is_refused_in_one_line(made: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"it ends in .xlsx; choose .csv or .parquet"):
        export_suite(read_suite("made", made), tmp_path / "made.xlsx")
    assert [] == list(tmp_path.iterdir())
