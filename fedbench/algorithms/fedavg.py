"""Federated Averaging (McMahan et al., 2017, arXiv:1602.05629): what `Algorithm` is by itself."""

from fedbench.hooks import Algorithm

FedAvg = Algorithm
