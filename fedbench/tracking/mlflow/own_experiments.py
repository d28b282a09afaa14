"""Kept until `gate` and `bench` import `experiments`."""

from fedbench.tracking.mlflow.experiments import OwnExperiment as OwnExperiment
from fedbench.tracking.mlflow.experiments import all_or_none as all_or_none
from fedbench.tracking.mlflow.experiments import open_own as open_own
from fedbench.tracking.mlflow.experiments import own_experiment_id as own_experiment_id
