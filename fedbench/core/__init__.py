"""Federated Averaging itself. Imports torch and numpy, nothing else, and can be used from a notebook."""

from fedbench.core.algorithm import Algorithm, GradientTerm, Memory, ServerUpdate, Task, Vectors
from fedbench.core.averaging import (
    average_model_parameters,
    distance,
    interpolate,
    normalise_weights,
    weighted_average,
)
from fedbench.core.client import Client, ClientData
from fedbench.core.evaluation import Evaluation, evaluate
from fedbench.core.fedavg import RoundResult, fedavg, num_selected
from fedbench.core.flat import FlatModel, ModelState
from fedbench.core.ordered_map import OrderedMap
from fedbench.core.streams import Purpose, derive_seed, numpy_stream, torch_stream

__all__ = [
    "Algorithm",
    "Client",
    "ClientData",
    "Evaluation",
    "FlatModel",
    "GradientTerm",
    "Memory",
    "ModelState",
    "OrderedMap",
    "Purpose",
    "RoundResult",
    "ServerUpdate",
    "Task",
    "Vectors",
    "average_model_parameters",
    "derive_seed",
    "distance",
    "evaluate",
    "fedavg",
    "interpolate",
    "normalise_weights",
    "num_selected",
    "numpy_stream",
    "torch_stream",
    "weighted_average",
]
