"""How the server combines the clients' models: one file each, and one line each in `AGGREGATIONS`.

A rule is a function ``rule(vectors, weights, **options)``, or a frozen dataclass whose fields are the options and whose
objects are called with the other two. ``vectors`` (m, D) are the models of a round's clients, in the order of the
clients, in at least float32; ``weights`` (m,) sum to 1; it returns the server's model, (D,), of their type. What the
components of a vector stand for is hidden from it. Two attributes are optional:

``min_clients``
    The number of clients that a round must have at least.
``accumulator``
    A method without arguments that makes a `fedbench.core.Accumulator`, for a rule that need not have all vectors at
    once.
"""

AGGREGATIONS: dict[str, str] = {
    "mean": "fedbench.aggregations.mean:Mean",
    "median": "fedbench.aggregations.median:median",
    "trimmed-mean": "fedbench.aggregations.trimmed_mean:TrimmedMean",
    "krum": "fedbench.aggregations.krum:Krum",
}
