"""A run's final model in MLflow's format: an exported program, or a state dict; without pickled code, logged once."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import LoggedModelOutput

from fedbench.util.environment import public_version
from fedbench.util.errors import one_line
from fedbench.util.quiet import quiet_export

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature
    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram

    from fedbench.tracking import FinalRecord

PROGRAM = Path("data") / "model.pt2"
STATE = Path("data") / "state_dict.pt"  # of a model that cannot be exported
MLMODEL = "MLmodel"
COPIES = 4  # of a model that are in the temporary folder at once, at most
OVERHEAD = 4 << 20  # bytes of the files around it

logger = logging.getLogger("fedbench")

# By name and shape of the example; None of a model that cannot be exported.
_programs: dict[tuple[str, tuple[int, ...]], tuple[Path, ExportedProgram] | None] = {}


def log_model(client: MlflowClient, experiment_id: str, run_id: str, final: FinalRecord) -> None:
    """Record the model of a run, which there is."""
    from mlflow.models import Model

    model, example = final.model, final.example
    assert model is not None and example is not None  # noqa: PT018, S101
    _require_room(model)
    logged = client.create_logged_model(experiment_id, "model", run_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        _save(path, final.model_name, model.eval(), example, len(final.class_names))
        description = Model.load(str(path / MLMODEL))
        description.run_id, description.model_id, description.model_uuid = run_id, logged.model_id, logged.model_id
        description.artifact_path = logged.artifact_location
        description.save(str(path / MLMODEL))
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])


def discard_run(client: MlflowClient, run: Run) -> None:
    """Delete a run with its models."""
    discard_models(client, run)
    client.delete_run(run.info.run_id)


def discard_models(client: MlflowClient, run: Run) -> None:
    """Delete the models of a run."""
    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        client.delete_logged_model(model.model_id)


def _save(path: Path, name: str, model: nn.Module, example: NDArray[np.float32], num_classes: int) -> None:
    """Write a model to a folder in the format of `mlflow.pytorch.save_model`, or as a state dict if that cannot be.

    Exporting takes longer than all the rest, and the programs of the models of one name differ in their parameters and
    buffers alone: each is exported once a process, and then filled.
    """
    import torch

    key, signature = (name, example.shape), _signature(example, num_classes)
    if key not in _programs:
        _programs[key] = _exported(model, example, signature)
    if (found := _programs[key]) is None:
        _save_state(path, model, signature)
        return
    template, program = found
    shutil.copytree(template, path)
    if program.constants:  # buffers that are in no state dict: the program is of this model alone
        shutil.rmtree(template)
        del _programs[key]
        return
    state = model.state_dict()
    with torch.no_grad():
        for each, tensor in program.state_dict.items():
            tensor.copy_(state[each])
    torch.export.save(program, path / PROGRAM)


def _require_room(model: nn.Module) -> None:
    """Check that the temporary folder has room: PyTorch ends the process where it cannot write its file."""
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if shutil.disk_usage(tempfile.gettempdir()).free < COPIES * size + OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tempfile.gettempdir())


@cache
def _folder() -> Path:
    """A folder of this process."""
    folder = tempfile.TemporaryDirectory(prefix="fedbench-models-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _save_state(path: Path, model: nn.Module, signature: ModelSignature) -> None:
    """Write a model's state dict, for `torch.load` with ``weights_only=True``."""
    import torch
    from mlflow.models import Model

    (path / STATE).parent.mkdir(parents=True)
    torch.save({key: tensor.cpu().clone() for key, tensor in model.state_dict().items()}, path / STATE)
    Model(signature=signature).save(str(path / MLMODEL))


def _signature(example: NDArray[np.float32], num_classes: int) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    return ModelSignature(
        Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        Schema([TensorSpec(example.dtype, (-1, num_classes))]),
    )


def _exported(
    model: nn.Module, example: NDArray[np.float32], signature: ModelSignature
) -> tuple[Path, ExportedProgram] | None:
    """A model in a folder in MLflow's format, and its program; None if PyTorch cannot export it, of which it warns."""
    import torch

    folder, versions = _folder() / str(len(_programs)), [f"torch=={public_version(torch.__version__)}"]
    root, occupied = logging.getLogger(), logging.NullHandler()
    try:
        with quiet_export():
            root.addHandler(occupied)  # or importing it configures logging, and warnings are no longer shown
            import mlflow.pytorch

            root.removeHandler(occupied)
            mlflow.pytorch.save_model(
                model,
                str(folder),
                signature=signature,
                input_example=example,
                pip_requirements=versions,
                serialization_format="pt2",
            )
    except OSError:  # the disk's
        raise
    except Exception as error:  # such as for control flow that depends on the data
        shutil.rmtree(folder, ignore_errors=True)
        what, why = type(model).__name__, one_line(error)
        logger.warning("fedbench: torch.export cannot take the model %s; its state dict is stored: %s", what, why)
        return None
    return folder, torch.export.load(folder / PROGRAM)
