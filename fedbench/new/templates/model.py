"""A model of your own: any `torch.nn.Module` that maps a batch of inputs to a score for each class."""

from torch import Tensor, nn


class MyModel(nn.Module):
    """One hidden layer.

    Parameters
    ----------
    width
        Units of the hidden layer. A parameter with a default is an option that a suite can set.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        # Initial values come from PyTorch's global random state, as those of its own layers do: fedbench seeds it.
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(1 * 28 * 28, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) float32 -> (B, 10) scores. The loss is their cross-entropy."""
        scores: Tensor = self.layers(images)
        return scores
