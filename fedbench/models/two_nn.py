"""The paper's 2NN: two hidden layers of 200 units, 199,210 parameters (McMahan et al., 2017, section 3)."""

import torch
from torch import Tensor, nn

from fedbench.models.backpropagation import backpropagate_dense


class TwoNN(nn.Module):
    """A multilayer perceptron with two hidden layers of 200 ReLU units.

    (B, 1, 28, 28) float32 -> (B, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 200)
        self.fc2 = nn.Linear(200, 200)
        self.fc3 = nn.Linear(200, 10)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = torch.relu(self.fc1(x.flatten(1)))  # (B, 200)
        x = torch.relu(self.fc2(x))  # (B, 200)
        output: Tensor = self.fc3(x)
        return output

    def backpropagate(self, x: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of a batch, (B,) labels; sets the gradients, as autograd would, in less time."""
        return backpropagate_dense([self.fc1, self.fc2, self.fc3], x.flatten(1), labels)
