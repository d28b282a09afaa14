"""How metrics are shown: what people call them, their units, scales and digits."""

from __future__ import annotations

from dataclasses import dataclass

from fedbench.measures import (
    AVERAGING_GAIN,
    BARRIER,
    BARRIERS,
    BYTES_TO_TARGET,
    PLAIN_ACCURACY,
    PLAIN_GAIN,
    ROUNDS_TO_TARGET,
)
from fedbench.reports.layout import mean_std
from fedbench.stats import Spread


@dataclass(frozen=True)
class Measure:
    """A metric as people read it.

    Attributes
    ----------
    words
        What people call it.
    unit, scale, digits, sign
        Of a value: the unit, how many of it are one of the metric's own, decimals, and "+" if the sign matters.
    possible
        The smallest and the largest possible value in the unit, which an interval may exceed; None if there is none.
    """

    metric: str
    words: str
    unit: str = "%"
    scale: float = 100
    digits: int = 1
    sign: str = ""
    possible: tuple[float | None, float | None] = (0, 100)
    lower_is_better: bool = False

    @property
    def name(self) -> str:
        """Its words as a title."""
        return self.words.capitalize()

    @property
    def column(self) -> str:
        """Its words with the unit."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def difference_unit(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.unit

    def text(self, value: float, sign: str = "", digits: int | None = None) -> str:
        """A value in the unit, without it."""
        return f"{self.scale * value:{sign}z.{self.digits if digits is None else digits}f}"

    def over_seeds(self, spread: Spread) -> str:
        """The mean ± standard deviation in the unit, without it."""
        return mean_std(spread, self.digits, self.scale, self.sign)


def _loss(metric: str, words: str, least: float | None = 0) -> Measure:
    return Measure(metric, words, "nats", 1, 3, "", (least, None), lower_is_better=True)


ACCURACY = Measure("accuracy", "accuracy")
BALANCED_ACCURACY = Measure("balanced_accuracy", "balanced accuracy")
LOSS = _loss("loss", "loss")
RISE = _loss(BARRIER, "loss barrier", None)
GAIN = Measure(AVERAGING_GAIN, "averaging gain", "points", sign="+", possible=(-100, 100))
DRIFT = Measure("client_drift", "client drift", "", 1, 3, "", (0, None))
TRAINING = Measure("training_seconds", "training", "s", 1, 2, "", (0, None))
MEASURES = {
    measure.metric: measure
    for measure in (
        *(ACCURACY, BALANCED_ACCURACY, LOSS, RISE, GAIN, DRIFT, TRAINING),
        _loss("train_loss", "training loss"),
        *(_loss(each, each.replace("_", " "), None) for each in BARRIERS if each != BARRIER),
        Measure(PLAIN_ACCURACY, "plain average's accuracy"),
        Measure(PLAIN_GAIN, "plain average's gain", "points", sign="+", possible=(-100, 100)),
        Measure(ROUNDS_TO_TARGET, "rounds to the target", "rounds", 1, 1, "", (0, None), lower_is_better=True),
        Measure(BYTES_TO_TARGET, "upload to the target", "MB", 1e-6, 1, "", (0, None), lower_is_better=True),
        Measure("worst_client", "worst client's accuracy"),
    )
}


def measure_of(metric: str) -> Measure:
    """How a metric is shown; any other as it is."""
    return MEASURES.get(metric) or Measure(metric, metric, "", 1, 3, "", (None, None))
