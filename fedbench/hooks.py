"""The hooks by which an algorithm extends Federated Averaging: three pure functions, which FedAvg leaves alone.

All vectors are (P,): a model's parameters as `fedbench.core.FlatModel` has them, or something of the same length. An
algorithm is a frozen object; what the server remembers from round to round is passed to it and returned by it. This
module needs torch for its annotations only, so that the options of algorithms can be listed without importing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

Vectors = Mapping[str, "Tensor"]
GradientTerm = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class AffineTerm:
    """A `GradientTerm` that the kernels compute themselves: factor · (w − start) + added.

    Attributes
    ----------
    start
        (P,); None: the term is `added` alone.
    added
        (P,); None: zero.
    """

    factor: float = 0.0
    start: Tensor | None = None
    added: Tensor | None = None

    def __call__(self, parameters: Tensor) -> Tensor:
        """See the class."""
        term = parameters.new_zeros(()) if self.start is None else self.factor * (parameters - self.start)
        return term if self.added is None else term + self.added


@dataclass(frozen=True)
class ClientContext:
    """What a client knows in a round.

    Attributes
    ----------
    start
        (P,) the parameters that it starts from, w_t.
    server
        What the server remembers.
    sent
        (P,) the sum of the messages that this client sent in earlier rounds; zeros at first.
    learning_rate
        η.
    """

    start: Tensor
    server: Vectors
    sent: Tensor
    learning_rate: float


@dataclass(frozen=True)
class ServerContext:
    """What the server knows when it has averaged the clients' models.

    Attributes
    ----------
    start
        (P,) the parameters that the round started from, w_t.
    memory
        What it remembers.
    message
        (P,) the average of the clients' messages, with the weights of the models; None if they send none.
    weight
        n_S, the sum of the selected clients' weights: their numbers of examples n_k, or 1 each if weights are uniform.
    total_weight
        Counts n, the same sum over all clients that have examples. Where there is none, `weight` is a share of 1.
    """

    start: Tensor
    memory: Vectors
    message: Tensor | None
    weight: float
    total_weight: Callable[[], float] = lambda: 1.0

    @property
    def fraction(self) -> float:
        """n_S / n, the selected clients' share of the weight of all. Asks all clients for their numbers of examples."""
        return self.weight / self.total_weight()


@dataclass(frozen=True)
class Algorithm:
    """Federated Averaging. Other algorithms override the hooks that they change.

    Attributes
    ----------
    assumes_descent
        Whether it takes a client's change for −η times the sum of the steps' gradients, as with plain SGD alone.
    revision
        Raised with every change that moves a number of its runs and no other algorithm's. It is part of their identity,
        unless it is 1. Those with a `server_step` of their own begin at 2: `client_drift`, `averaging_gain` and
        `ServerContext.fraction` were something else for them.
    """

    assumes_descent: ClassVar[bool] = False
    revision: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        """See `revision`."""
        if cls.server_step is not Algorithm.server_step:
            cls.revision = max(cls.revision, 2)

    def initial(self, parameters: Tensor) -> Vectors:
        """What the server remembers before round 1; `parameters` are w_0."""
        del parameters
        return {}

    def gradient_term(self, context: ClientContext) -> GradientTerm | None:
        """What a client adds to its gradient in this round, as a function of its parameters; None: nothing."""
        del context
        return None

    def message(self, parameters: Tensor, num_steps: int, context: ClientContext) -> Tensor | None:
        """What a client sends alongside its `parameters` after `num_steps` steps; None, from every client: nothing."""
        del parameters, num_steps, context
        return None

    def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
        """The next model's parameters, and what the server remembers next; `average` is that of the clients."""
        return average, context.memory
