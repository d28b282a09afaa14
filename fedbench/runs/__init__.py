"""Runs: one from its spec to its result, and the loop over a suite."""
