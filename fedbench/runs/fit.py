"""Whether a model takes a dataset's inputs, and an aggregation the model: tried once, before anything is recorded.

A built-in model whose dataset tells its shapes has been compared with it when the suite was read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fedbench.datasets import is_deferred
from fedbench.util.errors import RunError, SuiteError
from fedbench.util.imports import last_line

if TYPE_CHECKING:
    from fedbench.suites.cell import CellSpec

EXAMPLES = 2  # as few as a batch may have


def require_fitting_models(specs: Iterable[CellSpec]) -> None:
    """Build each model that may not fit and give it two examples, of zeros.

    Raises `SuiteError`: what it is given and what it should give, or its own error and where it was raised.
    """
    seen = set()
    for spec in specs:
        options = (*spec.options_of("model").items(), *spec.options_of("dataset").items())
        key = (spec.component("model"), spec.dataset, spec.split, options, spec.aggregation)
        is_open = spec.component("model").digest or is_deferred(spec.part("dataset"))
        if is_open and key not in seen:
            seen.add(key)
            _require_fit(spec)


def _require_fit(spec: CellSpec) -> None:
    import torch
    from torch import nn

    from fedbench.core import FlatModel
    from fedbench.core.trainer import initial_model

    name, file = f"model {spec.model}", spec.component("model").file
    try:
        model = initial_model(spec.build_model, seed=0, client=0)
    except SuiteError:
        raise
    except Exception as error:
        raise SuiteError(f"{name} cannot be built: {last_line(error, file)}") from None
    if not isinstance(model, nn.Module):
        raise SuiteError(f"{name} gives {type(model).__name__}, not a torch.nn.Module")
    try:
        FlatModel(model)
    except ValueError as error:
        raise SuiteError(f"{name}: {error}") from None
    info = spec.part("dataset").INFO
    given, wanted = (EXAMPLES, *info.image_shape), (EXAMPLES, info.num_classes)
    try:
        with torch.no_grad():
            scores = model.eval()(torch.zeros(given, dtype=getattr(torch, info.dtype)))
    except Exception as error:
        raise SuiteError(
            f"{name} does not take the inputs of dataset {spec.dataset}, {EXAMPLES} of which are {given}: "
            f"{last_line(error, file)}"
        ) from None
    if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != wanted or not scores.is_floating_point():
        raise SuiteError(
            f"{name} gives {_described(scores)} for inputs {given}; dataset {spec.dataset} has {info.num_classes} "
            f"classes, so it must give scores {wanted}"
        )
    if for_model := getattr(spec.part("aggregation"), "for_model", None):
        try:
            for_model(model, torch.zeros(given, dtype=getattr(torch, info.dtype)))
        except RunError as error:
            raise SuiteError(f"aggregation {spec.aggregation}: {name}: {error}") from None


def _described(scores: object) -> str:
    import torch

    if isinstance(scores, torch.Tensor):
        return f"{str(scores.dtype).removeprefix('torch.')} {tuple(scores.shape)}"
    return f"a {type(scores).__name__}"
