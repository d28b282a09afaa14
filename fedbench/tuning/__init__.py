"""Local epochs and learning rate searched with Optuna, on a validation split; the answer is tested on fresh seeds."""
