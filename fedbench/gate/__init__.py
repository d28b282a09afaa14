"""The gate: a suite checked against its baseline, the code's speed against a revision."""
