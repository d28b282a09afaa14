"""The gate: whether the model is worse or the code slower than before."""
