"""Models of a user's that do not fit the data: one line, before anything is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fedbench_here

SUITE = """
name: own
question: Does it work?
seeds: [0]
scenarios: [{name: a, examples_per_client: 20, rounds: 1, local_epochs: 1, model: './net.py:%s'}]
"""
NETS = """
import torch
from torch import nn


def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 7))


def flat():
    return nn.Linear(784, 10)


def frozen_thing():
    return nn.Flatten()


def mixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.Linear(20, 10).double())


def number():
    return 3


def broken():
    raise KeyError("width")


class Pair(nn.Linear):
    def __init__(self):
        super().__init__(784, 10)

    def forward(self, x):
        return super().forward(x.flatten(1)), None


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.halves, self.last = nn.ModuleList([nn.Linear(784, 5), nn.Linear(784, 5)]), nn.Linear(10, 10)

    def forward(self, x):
        return self.last(torch.cat([half(x.flatten(1)) for half in self.halves], dim=1))


class Classes(Pair):
    def forward(self, x):
        return super().forward(x)[0].argmax(1)


class Late(Pair):
    def forward(self, x):
        if self.training:
            raise RuntimeError("only after the check")
        return super().forward(x)[0]
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "narrow",
            "model ./net.py:narrow gives float32 (2, 7) for inputs (2, 1, 28, 28); dataset mnist-5k has 10 classes, so "
            "it must give scores (2, 10)",
        ),
        (
            "flat",
            "model ./net.py:flat does not take the inputs of dataset mnist-5k, 2 of which are (2, 1, 28, 28): "
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied (56x28 and 784x10)",
        ),
        ("frozen_thing", "model ./net.py:frozen_thing: the model has no parameters to train"),
        ("mixed", "model ./net.py:mixed: the model's parameters and buffers must be of one type"),
        ("number", "model ./net.py:number gives int, not a torch.nn.Module"),
        ("broken", "model ./net.py:broken cannot be built: KeyError: 'width' (net.py, line 27)"),
        ("Pair", "model ./net.py:Pair gives a tuple for inputs (2, 1, 28, 28)"),
        ("Classes", "model ./net.py:Classes gives int64 (2,) for inputs (2, 1, 28, 28)"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line_and_nothing_is_recorded(
    tmp_path: Path, name: str, expected: str
) -> None:
    (tmp_path / "net.py").write_text(NETS)
    (tmp_path / "own.yaml").write_text(SUITE % name)
    for command in (("run", "own.yaml"), ("run", "own.yaml", "--dry-run"), ("baseline", "own.yaml")):
        done = fedbench_here(*command, folder=tmp_path)
        assert 2 == done.code
        assert f"fedbench: error: {expected}" in done.err
        assert 1 == done.err.count("\n")
    assert {"net.py", "own.yaml"} == {path.name for path in tmp_path.iterdir()} - {"home"}


def test_a_model_whose_units_cannot_be_followed_is_one_line_only_where_they_are_aligned(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETS)
    (tmp_path / "own.yaml").write_text(SUITE % "Halves")
    assert 0 == fedbench_here("run", "own.yaml", "--dry-run", folder=tmp_path).code
    done = fedbench_here("run", "own.yaml", "--set", "aggregation=[mean, aligned]", folder=tmp_path)
    assert (2, 1) == (done.code, done.err.count("\n"))
    expected = (
        "model ./net.py:Halves: units cannot be followed through cat in the model's forward: there is no rule for it"
    )
    assert f"fedbench: error: aggregation aligned: {expected}" in done.err


def test_a_dry_run_of_a_model_that_cannot_be_trained_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETS)
    (tmp_path / "own.yaml").write_text(SUITE % "Late")
    done = fedbench_here("run", "own.yaml", "--dry-run", folder=tmp_path)
    expected = "error: model ./net.py:Late cannot be trained: RuntimeError: only after the check (net.py, line 55)"
    assert (2, f"fedbench: {expected}\n") == (done.code, done.err)


def test_an_error_in_a_run_says_where_in_the_users_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETS)
    (tmp_path / "own.yaml").write_text(SUITE % "Late")
    done = fedbench_here("run", "own.yaml", "--json", "--workers", "1", folder=tmp_path)
    assert 1 == done.code
    assert "RuntimeError: only after the check (net.py, line 55)" in done.out
