"""Federated Averaging (McMahan et al., 2017, arXiv:1602.05629): `Algorithm` as it is."""

from fedbench.hooks import Algorithm

FedAvg = Algorithm
