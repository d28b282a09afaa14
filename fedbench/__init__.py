"""fedbench: a benchmark suite of Federated Averaging whose every run is tracked in MLflow.

The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "BaselineError",
    "BenchmarkError",
    "CheckpointError",
    "ClusterError",
    "DataError",
    "FedbenchError",
    "InterruptedSuiteError",
    "PartitionError",
    "StoreError",
    "SuiteError",
    "__version__",
    "results",
    "run",
]

if TYPE_CHECKING:
    from fedbench.api import results as results
    from fedbench.api import run as run
    from fedbench.util.errors import BaselineError as BaselineError
    from fedbench.util.errors import BenchmarkError as BenchmarkError
    from fedbench.util.errors import CheckpointError as CheckpointError
    from fedbench.util.errors import ClusterError as ClusterError
    from fedbench.util.errors import DataError as DataError
    from fedbench.util.errors import FedbenchError as FedbenchError
    from fedbench.util.errors import InterruptedSuiteError as InterruptedSuiteError
    from fedbench.util.errors import PartitionError as PartitionError
    from fedbench.util.errors import StoreError as StoreError
    from fedbench.util.errors import SuiteError as SuiteError


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("fedbench.api" if name in ("run", "results") else "fedbench.util.errors"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
