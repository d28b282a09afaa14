"""The gate: a suite checked against its baseline, the code's speed against a revision."""

from pathlib import Path

BASELINES = Path("baselines")  # the folder that is the default
