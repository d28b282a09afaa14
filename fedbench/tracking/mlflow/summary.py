"""What a cell's seeds have in common: mean, spread and interval of each metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fedbench.measures import AVERAGING_GAIN, CLIENT_ACCURACY, PLAIN_GAIN, RECOVERED
from fedbench.stats import spread_by_step
from fedbench.tracking.records import recovered_of

NOT_SUMMARISED = (CLIENT_ACCURACY, "client_drift/")  # metrics of one client each
Series = Mapping[int, float]  # a metric's values, by step


def summary(seeds: Sequence[Mapping[str, Series]]) -> dict[str, dict[int, float]]:
    """Mean, standard deviation and 95 % interval over seeds, by the metric's name and step.

    With one seed there is a mean only. A metric that some seed lacks is left out. What is recovered is a
    ratio of means.
    """
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for key in sorted(set().union(*seeds)):
        if key.startswith(NOT_SUMMARISED) or key == RECOVERED:
            continue
        for step, over in spread_by_step([values.get(key, {}) for values in seeds]).items():
            found[f"{key}/mean"][step] = over.mean
            if over.std is not None and over.interval is not None:
                found[f"{key}/std"][step] = over.std
                found[f"{key}/ci95_low"][step], found[f"{key}/ci95_high"][step] = over.interval
    gains = [{key: each[key][max(each[key])] for key in (AVERAGING_GAIN, PLAIN_GAIN) if key in each} for each in seeds]
    if ratio := recovered_of(gains):
        step = max(max(each[PLAIN_GAIN]) for each in seeds)
        for name, value in (("mean", ratio.ratio), ("ci95_low", ratio.low), ("ci95_high", ratio.high)):
            found[f"{RECOVERED}/{name}"][step] = value
    return dict(found)
