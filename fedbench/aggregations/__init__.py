"""How the server combines the clients' models: one file each, and one line each in `AGGREGATIONS`.

A rule is a function ``rule(vectors, weights, **options)``, or a frozen dataclass whose fields are the options and whose
objects are called with the other two. ``vectors`` (m, D) are the models of a round's clients, in the order of the
clients, in at least float32; ``weights`` (m,) sum to 1; it returns the server's model, (D,), of their type. What the
components of a vector stand for is hidden from it. Some attributes are optional:

``min_clients``
    The number of clients that a round must have at least.
``accumulator``
    A method without arguments that makes a `fedbench.core.Accumulator`, for a rule that need not have all vectors at
    once.
``for_model``
    A method for a rule that must know what the components stand for. It is called once a run, with a model like the
    clients' and (N, ...) public inputs, the last `num_public` training examples that no client holds, and returns what
    makes accumulators. A rule with this method need not be callable.
``permutes``
    Whether it changes the order of units, so that what clients send in addition no longer fits.
``is_portable``
    Whether its bits are the same on every processor.
"""

AGGREGATIONS: dict[str, str] = {
    "mean": "fedbench.aggregations.mean:Mean",
    "aligned": "fedbench.aggregations.aligned:Aligned",
    "median": "fedbench.aggregations.median:median",
    "trimmed-mean": "fedbench.aggregations.trimmed_mean:TrimmedMean",
    "krum": "fedbench.aggregations.krum:Krum",
}
