"""The federated algorithms: one file each, and one line each in `ALGORITHMS`. Listing them imports no torch.

An algorithm is a frozen dataclass that extends `Algorithm`; its fields are its options.
"""

ALGORITHMS: dict[str, str] = {
    "fedavg": "fedbench.algorithms.fedavg:FedAvg",
    "fedavgm": "fedbench.algorithms.fedavgm:FedAvgM",
    "fedadam": "fedbench.algorithms.fedadam:FedAdam",
    "fedyogi": "fedbench.algorithms.fedyogi:FedYogi",
    "fedprox": "fedbench.algorithms.fedprox:FedProx",
    "scaffold": "fedbench.algorithms.scaffold:Scaffold",
}
