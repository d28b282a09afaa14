"""Federated Averaging with Flower: `run_simulation` on Ray, one client a core at a time, data in memory."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
import work
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Local training of one client, in one of Ray's processes."""
    config, client = message.content["config"], int(context.node_config["partition-id"])
    torch.manual_seed(int(config["server-round"]) * work.NUM_CLIENTS + client)
    images, labels = work.client_data(str(config["data-dir"]), client)
    model = work.SimpleCNN()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=work.LEARNING_RATE)
    model.train()
    for _ in range(work.LOCAL_EPOCHS):
        for batch, target in work.shuffled_batches(images, labels, work.BATCH_SIZE):
            optimizer.zero_grad()
            loss = F.nll_loss(model(batch), target)
            loss.backward()
            optimizer.step()
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(labels)})}
    return Message(content=RecordDict(content), reply_to=message)


def make_server_app(data_dir: str) -> ServerApp:
    """A server that averages, and evaluates each round's model in its own process."""
    app = ServerApp()

    @torch.no_grad()
    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        if number == 0:
            return None  # the untrained model, which nobody else evaluates
        model = work.SimpleCNN()
        model.load_state_dict(arrays.to_torch_state_dict())
        model.eval()
        images, labels = work.in_memory(data_dir, train=False)
        loss, correct = 0.0, 0
        for batch, target in zip(images.split(work.TEST_BATCH_SIZE), labels.split(work.TEST_BATCH_SIZE), strict=True):
            output = model(batch)
            loss += F.nll_loss(output, target, reduction="sum").item()
            correct += int((output.argmax(dim=1) == target).sum())
        work.report_round(number, correct / len(labels))
        return MetricRecord({"loss": loss / len(labels), "accuracy": correct / len(labels)})

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        torch.manual_seed(work.SEED)
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=work.NUM_CLIENTS, min_available_nodes=work.NUM_CLIENTS)
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(work.SimpleCNN().state_dict()),
            num_rounds=work.ROUNDS,
            train_config=ConfigRecord({"data-dir": data_dir}),
            evaluate_fn=evaluate,
        )

    return app


def main() -> None:
    """Do the work."""
    data_dir = str(work.parse_data_dir(__doc__).resolve())
    run_simulation(
        server_app=make_server_app(data_dir),
        client_app=client_app,
        num_supernodes=work.NUM_CLIENTS,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},  # as many clients at once as there are cores
            "init_args": {
                "num_cpus": len(os.sched_getaffinity(0)),
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            },
        },
    )


if __name__ == "__main__":
    main()
