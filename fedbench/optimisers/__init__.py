"""The clients' optimisers: one file each, and one line each in `OPTIMISERS`. Listing them imports no torch.

An optimiser is a function ``make(parameters, learning_rate, **options)`` that returns a `torch.optim.Optimizer`, or a
frozen dataclass whose fields are the options and whose objects are called with the other two. It is made anew for each
client in each round. Two attributes are optional:

``is_plain``
    Whether a step is w ← w − η g and nothing else, which `fedbench.core` takes by itself.
``is_elementwise``
    Whether what a step does to a parameter depends on no other: it is then given all of them as one vector.
"""

OPTIMISERS: dict[str, str] = {"sgd": "fedbench.optimisers.sgd:SGD"}
