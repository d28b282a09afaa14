"""What a cell's seeds have in common: mean, spread and interval of each metric, and the sum of confusion matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fedbench.measures import CLIENT_ACCURACY
from fedbench.stats import spread_by_step
from fedbench.tracking.records import confusion_csv, sum_confusions

NOT_SUMMARISED = (CLIENT_ACCURACY, "client_drift/")  # metrics of one client each
Series = Mapping[int, float]  # a metric's values, by step


def summary(seeds: Sequence[Mapping[str, Series]]) -> dict[str, dict[int, float]]:
    """Mean, standard deviation and 95 % interval over seeds, by the metric's name and step.

    With one seed there is a mean only. A metric that some seed lacks is left out.
    """
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for key in sorted(set().union(*seeds)):
        if key.startswith(NOT_SUMMARISED):
            continue
        for step, over in spread_by_step([values.get(key, {}) for values in seeds]).items():
            found[f"{key}/mean"][step] = over.mean
            if over.std is not None and over.interval is not None:
                found[f"{key}/std"][step] = over.std
                found[f"{key}/ci95_low"][step], found[f"{key}/ci95_high"][step] = over.interval
    return dict(found)


def add_confusions(texts: Sequence[str]) -> str:
    """The sum of confusion matrices; see `sum_confusions`."""
    names, confusion = sum_confusions(texts)
    return confusion_csv(confusion, names)
