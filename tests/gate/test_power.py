"""What is said about power and errors is what simulation gives; benchmarks/statistics simulates more."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from fedbench.gate.checks import Judgement
from fedbench.gate.power import minimum_detectable_effect, seeds_needed
from fedbench.stats import Difference

SCRIPT = Path(__file__).parents[2] / "benchmarks/statistics/simulate.py"


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("num_seeds", "num_cells", "factor"), [(5, 5, 5.6401), (3, 5, 10.7365), (3, 15, 18.5886)], ids=str
)
def test_independent_seeds_have_the_factors_of_the_noncentral_t(num_seeds: int, num_cells: int, factor: float) -> None:
    """The factors of the standard error were computed with another implementation."""
    effect = minimum_detectable_effect(Difference(0.3, 0.02, num_seeds - 1), 0.01, num_cells)
    assert pytest.approx(0.01 + factor * 0.02, rel=1e-4) == effect


def test_the_minimum_detectable_effect_is_the_margin_at_least_and_grows_with_the_cells() -> None:
    equal = Difference(0.3, 0.0, 4, is_paired=True)  # by chance in 1 of 32
    assert (0.01, None) == (minimum_detectable_effect(equal, 0.01, 1), minimum_detectable_effect(equal, 0.01, 5))
    pairs = Difference(0.3, 0.02, 4, is_paired=True)
    effects = [minimum_detectable_effect(pairs, 0.01, cells) or 0.0 for cells in (1, 5, 15)]
    assert sorted(set(effects)) == effects
    assert minimum_detectable_effect(Difference(0.3), 0.01, 1) is None


@pytest.mark.parametrize(
    ("num_seeds", "num_cells", "is_paired"), [(3, 5, True), (5, 5, True), (10, 15, True), (5, 5, False)], ids=str
)
def test_a_drop_of_that_size_is_found_in_nine_of_ten_checks(
    simulate: ModuleType, num_seeds: int, num_cells: int, is_paired: bool
) -> None:
    assert 0.85 < simulate.power_of_effect(num_seeds, num_cells, 500, is_paired=is_paired) < 0.94


@pytest.mark.parametrize(
    "name", ["normal", "heavy", "rises", "drops", "3 (10 %)", "1 (10 %)", "two values", "jumps up by 10"]
)
@pytest.mark.parametrize("num_seeds", [5, 10])
def test_no_change_is_called_worse_in_one_of_twenty_checks_at_most(
    simulate: ModuleType, name: str, num_seeds: int
) -> None:
    """Any of five cells, in 300 checks, with the sampling error of 15 in 300; the scatter is ten margins."""
    (draw,) = (draw for shape, draw in simulate.SHAPES.items() if name in shape)
    assert simulate.any_cell(draw, 10, 0.0, (Judgement.WORSE,), num_seeds, 300) <= 0.07


@pytest.mark.parametrize(("std", "num_baseline"), [(0.5, None), (1.0, None), (0.5, 10), (1.0, 30)], ids=str)
def test_so_many_seeds_show_in_nine_of_ten_checks_that_nothing_changed(
    simulate: ModuleType, std: float, num_baseline: int | None
) -> None:
    needed = seeds_needed(std * 0.01, 0.01, simulate.NUM_CELLS, num_baseline is None, num_baseline)
    assert needed is not None
    assert 0.86 < simulate.power_of_seeds(std * 0.01, needed, num_baseline, 500) < 0.97


def test_a_margin_of_one_standard_deviation_takes_thirteen_pairs() -> None:
    """2 t(12; 0.95) = 3.565 is less than √13 = 3.606, but 2 t(11; 0.95) = 3.592 is more than √12 = 3.464."""
    assert 13 == seeds_needed(1.0, 1.0, 1, is_paired=True)


def test_a_baseline_of_five_seeds_is_too_small_for_any_number_of_new_ones() -> None:
    """Its share of the standard error alone is 0.45 margins, and 0.45 · 2 t(4; 0.99) is 3.4."""
    assert seeds_needed(1.0, 1.0, 5, num_baseline=5) is None
    balanced = seeds_needed(1.0, 1.0, 5)
    assert balanced is not None
    assert balanced == seeds_needed(1.0, 1.0, 5, num_baseline=balanced)


def test_a_scatter_that_is_too_large_has_no_number_of_seeds() -> None:
    assert seeds_needed(1e9, 1e-3, 1, is_paired=True) is None
    assert seeds_needed(math.nan, 0.01, 1, is_paired=True) is None
    assert 2 == seeds_needed(0.0, 0.01, 1, is_paired=True)
