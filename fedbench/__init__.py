"""fedbench: a benchmark suite of Federated Averaging whose every run is tracked in MLflow."""

__version__ = "0.1.0"
