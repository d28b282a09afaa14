"""Federated Averaging itself. Imports torch, numpy and, to match units, scipy only; usable from a notebook."""

from fedbench.core.alignment import AlignedMean, Architecture, align, correlations, repair
from fedbench.core.averaging import WeightedMean, average_model_parameters, distance, interpolate, normalise_weights
from fedbench.core.client import Client, ClientData, LocalTraining
from fedbench.core.evaluation import Evaluation, evaluate
from fedbench.core.fedavg import fedavg
from fedbench.core.flat import FlatModel, ModelState, model_with
from fedbench.core.rules import Accumulator, accumulator_of
from fedbench.core.selection import select_clients
from fedbench.core.state import RoundResult, ServerState
from fedbench.core.streams import Purpose, derive_seed, numpy_stream, permutation, torch_stream
from fedbench.core.trainer import ClientUpdate
from fedbench.hooks import Algorithm, ClientContext, GradientTerm, ServerContext, Vectors
from fedbench.util.selection import num_selected

__all__ = [
    "Accumulator",
    "Algorithm",
    "AlignedMean",
    "Architecture",
    "Client",
    "ClientContext",
    "ClientData",
    "ClientUpdate",
    "Evaluation",
    "FlatModel",
    "GradientTerm",
    "LocalTraining",
    "ModelState",
    "Purpose",
    "RoundResult",
    "ServerContext",
    "ServerState",
    "Vectors",
    "WeightedMean",
    "accumulator_of",
    "align",
    "average_model_parameters",
    "correlations",
    "derive_seed",
    "distance",
    "evaluate",
    "fedavg",
    "interpolate",
    "model_with",
    "normalise_weights",
    "num_selected",
    "numpy_stream",
    "permutation",
    "repair",
    "select_clients",
    "torch_stream",
]
