"""Federated Averaging with pfl-research: the clients are split over the processes of torchrun; data in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
import work
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.metrics import Metrics, StringMetricName, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor


class Model(work.SimpleCNN):
    """The network with the loss and the metrics that pfl-research asks a module for."""

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a training batch."""
        self.train()
        return F.nll_loss(self(images), labels)

    @torch.no_grad()
    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, Weighted]:
        """Sums over a batch, with the number of examples as weight."""
        self.eval()
        output = self(images)
        loss = F.nll_loss(output, labels, reduction="sum").item()
        correct = int((output.argmax(dim=1) == labels).sum())
        return {"loss": Weighted(loss, len(labels)), "accuracy": Weighted(correct, len(labels))}


class ShuffledDataset(PyTorchTensorDataset):
    """A client's data, in a new order each epoch; pfl-research's own keeps one order."""

    def iter(self, batch_size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch's batches."""
        yield from work.shuffled_batches(*self.raw_data, batch_size or len(self))


class EveryRound(CentralEvaluationCallback):
    """Evaluate after every round; pfl-research's own does so before the first round instead of after it."""

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        """Leave the untrained model alone, which nobody else evaluates."""
        del model
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Evaluate, each process its share of the test set."""
        number = central_iteration + 1
        stop, metrics = super().after_central_iteration(aggregate_metrics, model, central_iteration=number)
        if pytorch_ops.distributed.global_rank == 0:
            work.report_round(number, metrics[StringMetricName("Central val | accuracy")].overall_value)
        return stop, metrics


def main() -> None:
    """Do the work."""
    data_dir = str(work.parse_data_dir(__doc__))
    np.random.seed(work.SEED)
    torch.manual_seed(work.SEED)
    network = Model()
    torch.manual_seed(work.SEED + 1 + pytorch_ops.distributed.global_rank)  # else all shuffle alike
    clients = FederatedDataset(
        lambda client: ShuffledDataset(work.client_data(data_dir, client), user_id=str(client)),
        MinimizeReuseUserSampler(range(work.NUM_CLIENTS)),
    )
    test_set = PyTorchTensorDataset(work.in_memory(data_dir, train=False))
    evaluation = NNEvalHyperParams(local_batch_size=work.TEST_BATCH_SIZE)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=work.ROUNDS,
            evaluation_frequency=work.ROUNDS,  # of the clients' own data, which is always done in the first round
            train_cohort_size=work.NUM_CLIENTS,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=clients, val_data=clients, postprocessors=[WeightByDatapoints()]),
        model=PyTorchModel(
            model=network,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        ),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=work.LOCAL_EPOCHS,
            local_learning_rate=work.LEARNING_RATE,
            local_batch_size=work.BATCH_SIZE,
        ),
        model_eval_params=evaluation,
        callbacks=[EveryRound(test_set, model_eval_params=evaluation)],
    )


if __name__ == "__main__":
    main()
