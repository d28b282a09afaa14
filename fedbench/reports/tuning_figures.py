"""A study's figures: Optuna's own plots, in the style and with the terms of the other figures."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from fedbench.reports.style import PANEL_INCHES, STYLE, Figure  # before Matplotlib, which it sets up

# isort: split
import matplotlib.pyplot as plt
import numpy as np
import optuna
from matplotlib import style as styles
from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import matplotlib as plots

from fedbench.reports.axes import legend, name_axes, panels_of, sized, tidy, without_legend
from fedbench.reports.tuning import objective_scale, objective_words
from fedbench.suites.tune import Objective
from fedbench.tuning.objective import can_be_best
from fedbench.tuning.study_records import study_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

    from fedbench.suites.tune import Axis
    from fedbench.tuning.results import TrialResult, TuningResult

WIDTH = 8.4  # inches
OPTUNA_STYLE = STYLE | {"figure.constrained_layout.use": True}  # from the beginning: Optuna adds bars of colours
GREY = "no answer by its verdict"
NOT_DRAWN = "Pruned, failed and diverged ones are not drawn."
MIN_TRIALS = 5  # complete ones, below which a surface and shares of importance are chance
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
FAILURES = (
    ValueError,
    TypeError,
    RuntimeError,
    ArithmeticError,
    LookupError,
)  # what Optuna raises on what it cannot draw


def draw_study(result: TuningResult) -> list[Figure]:
    """Draw a study's figures: with few trials, one field or equal values there are fewer."""
    with _quiet():
        return list(_draw(_Shown(result)))


def _draw(shown: _Shown) -> Iterator[Figure]:
    drawings: tuple[tuple[str, str, Callable[[], tuple[Drawing, str] | None]], ...] = (
        ("history", "The search, trial by trial", shown.history),
        ("slice", "Each field by itself", shown.slice),
        ("contour", "Two fields together", shown.contour),
        ("importance", "Which field matters", shown.importance),
        ("rounds", "Trials by round", shown.rounds),
    )
    for name, title, draw in drawings:
        with suppress(*FAILURES):  # a missing figure must not cost the report
            if drawn := draw():
                drawing, caption = drawn
                buffer = io.BytesIO()
                drawing.savefig(buffer, metadata={"Software": None})
                yield Figure(name, title, caption, buffer.getvalue())
        plt.close("all")


@contextmanager
def _quiet() -> Iterator[None]:
    """Use the report's style instead of Optuna's, and hide its warnings."""
    verbosity, asked_for = optuna.logging.get_verbosity(), styles.library["ggplot"]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    styles.library["ggplot"] = OPTUNA_STYLE  # type: ignore[assignment]
    try:
        with warnings.catch_warnings(), plt.rc_context(OPTUNA_STYLE):
            for kind in (ExperimentalWarning, UserWarning, RuntimeWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        styles.library["ggplot"] = asked_for
        optuna.logging.set_verbosity(verbosity)


class _Shown:
    """A study as Optuna draws it, with rates in percent and readable names.

    It is made from the result, not from the storage, which holds a retried trial twice.
    """

    def __init__(self, result: TuningResult) -> None:
        self.result = result
        document = study_json(result)
        self.scale, _, unit = objective_scale(document["objective"])
        self.words = objective_words(document)
        unit = {"points": " (%)", "nats": " (nats)", "rounds": ""}[unit]
        self.label = f"{self.words}, validation{unit}"
        space = result.plan.space
        self.fields = [axis.field.replace("_", " ") for axis in space]
        defaults = result.plan.default.values()
        self.whole = {field for field, own in zip(self.fields, defaults, strict=True) if not isinstance(own, float)}
        self.distributions = {
            field: _distribution(axis, whole=field in self.whole)
            for field, axis in zip(self.fields, space, strict=True)
        }
        self.study = optuna.create_study(direction="minimize" if result.plan.objective.is_minimised else "maximize")
        self.study.set_metric_names([self.label])
        by_number = {trial.number: trial for trial in result.trials}
        for number in range(max(by_number, default=-1) + 1):
            self.study.add_trial(self._shown(by_number.get(number)))
        self.complete = [t for t in self.study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
        self.values_differ = len({trial.value for trial in self.complete}) > 1
        self.varying = [field for field in self.fields if len({trial.params.get(field) for trial in self.complete}) > 1]

    def _shown(self, trial: TrialResult | None) -> FrozenTrial:
        """A trial to draw; one that cannot be drawn appears as failed, so that the others keep their numbers."""
        if trial is None or trial.value is None or (trial.state == "complete" and not math.isfinite(trial.value)):
            return create_trial(state=TrialState.FAIL)
        values = {axis.field.replace("_", " "): trial.params[axis.field] for axis in self.result.plan.space}
        params = {field: _labelled(value, self.distributions[field]) for field, value in values.items()}
        return create_trial(
            state=STATES[trial.state],
            value=self.scale * trial.value if trial.state == "complete" else None,
            params=params,
            distributions=self.distributions,
            intermediate_values=self._curve(trial),
            # Optuna draws what violates a constraint in grey, and never as the best so far.
            constraints={"can be best": float(not can_be_best(self.result.plan.objective, trial))},
        )

    def _curve(self, trial: TrialResult) -> dict[int, float]:
        """The objective by round, or the accuracy if the objective counts rounds."""
        metric, scale = self.curve_metric
        values = {step: each[metric] for step, each in enumerate(trial.rounds, start=1)}
        return {step: scale * value for step, value in values.items() if math.isfinite(value)}

    @property
    def curve_metric(self) -> tuple[str, float]:
        """The metric that is drawn by round, and its factor."""
        objective = self.result.plan.objective
        metric = "accuracy" if objective is Objective.ROUNDS_TO_TARGET else str(objective)
        return metric, objective_scale(metric)[0]

    @property
    def unreached(self) -> str:
        """What a number of rounds means that is not one."""
        plan = self.result.plan
        if plan.objective is not Objective.ROUNDS_TO_TARGET:
            return ""
        return f"; a seed that did not reach the target counts as {plan.most_rounds + 1} rounds or more"

    def history(self) -> tuple[Drawing, str] | None:
        """The objective of each trial and the best so far."""
        if not self.complete:
            return None
        axes = plots.plot_optimization_history(self.study, target_name=self.label)
        drawing = sized(axes, WIDTH, PANEL_INCHES[1])
        name_axes(axes, "trial", self.label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.lines[0].set(color="C1", alpha=1, drawstyle="steps-post")
        default = next((trial.value for trial in self.complete if trial.number == 0), None)
        if default is not None:
            axes.axhline(default, color="grey", linestyle=":", linewidth=1, label="the default configuration")
        axes.collections[-1].set_label(GREY if np.size(axes.collections[-1].get_offsets()) else "_")
        legend(axes, {self.label: "a trial", "Best Value": "the best so far"})
        return drawing, f"{len(self.complete)} complete trials{self.unreached}. {NOT_DRAWN}"

    def slice(self) -> tuple[Drawing, str] | None:
        """The objective against each field."""
        if not self.varying:
            return None
        panels = panels_of(plots.plot_slice(self.study, params=self.varying, target_name=self.label))
        drawing = sized(panels[0], max(WIDTH / 2, min(PANEL_INCHES[0] * len(panels), 12.6)), PANEL_INCHES[1])
        for axes in panels:
            name_axes(axes, axes.get_xlabel(), axes.get_ylabel())
            tidy(axes.xaxis, self.whole)
        drawing.axes[-1].set_ylabel("trial")
        drawing.axes[-1].yaxis.set_major_locator(MaxNLocator(integer=True))
        drawing.suptitle("")
        return drawing, f"Each point is a complete trial; the darker, the later. Grey: {GREY}."

    def contour(self) -> tuple[Drawing, str] | None:
        """The objective over two fields; of more, over the two that matter most."""
        if len(self.complete) < MIN_TRIALS or len(self.varying) < 2 or not self.values_differ:
            return None
        fields = self.importances()[:2] if len(self.varying) > 2 else self.varying
        (axes,) = panels_of(plots.plot_contour(self.study, params=fields, target_name=self.label))
        drawing = sized(axes, WIDTH / 1.4, WIDTH / 1.9)
        name_axes(axes, axes.get_xlabel(), axes.get_ylabel())
        for ruler in (axes.xaxis, axes.yaxis):
            tidy(ruler, self.whole)
        for points in axes.collections[2:]:
            points.set(sizes=[9], linewidth=0)
        axes.grid(visible=False)
        which = f"The two of {len(self.varying)} fields that matter most. " if len(self.varying) > 2 else ""
        caption = f"Points are complete trials; between them the {self.words} is interpolated, which is a guess."
        return drawing, which + caption

    def importances(self) -> list[str]:
        """The fields, the most important first."""
        evaluator = PedAnovaImportanceEvaluator()
        return list(get_param_importances(self.study, evaluator=evaluator, params=self.varying))

    def importance(self) -> tuple[Drawing, str] | None:
        """The importance of each field."""
        if len(self.complete) < MIN_TRIALS or len(self.varying) < 2 or not self.values_differ:
            return None
        axes = plots.plot_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator(), params=self.varying)
        drawing = sized(axes, WIDTH * 0.7, 1.1 + 0.4 * len(self.varying))
        name_axes(axes, "share of what the fields explain", "")
        without_legend(axes)
        for bar in axes.patches:
            bar.set_color("C0")
        for number in axes.texts:
            number.set_text(f" {number.get_text()}")
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1.15 * max(float(number.get_position()[0]) for number in axes.texts))
        return drawing, (
            "How far each field by itself decides whether a trial is among the better ones (PED-ANOVA), as shares of "
            "one. With few trials this is rough."
        )

    def rounds(self) -> tuple[Drawing, str] | None:
        """Each trial's rounds, and where trials were pruned."""
        with_curves = [trial for trial in self.study.get_trials(deepcopy=False) if len(trial.intermediate_values) > 0]
        if not any(len(trial.intermediate_values) > 1 for trial in with_curves):
            return None
        axes = plots.plot_intermediate_values(self.study)
        drawing = sized(axes, WIDTH, PANEL_INCHES[1])
        metric, scale = self.curve_metric
        name_axes(axes, "round", f"{metric.replace('_', ' ')}, validation ({'%' if scale == 100 else 'nats'})")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _restyle_curves(axes, with_curves, self.result.best.trial if self.result.best else None)
        pruned = sum(trial.state is TrialState.PRUNED for trial in with_curves)
        ends = "; others end where all seeds have reached the target" if self.unreached else ""
        return drawing, f"{len(with_curves)} trials, means over the seeds; {pruned} were pruned and end early{ends}."


def _distribution(axis: Axis, whole: bool) -> BaseDistribution:
    """The distribution of a field; choices are labels that sort as they are listed."""
    if axis.choices:
        return CategoricalDistribution([_label(place, choice) for place, choice in enumerate(axis.choices)])
    low, high = cast(float, axis.low), cast(float, axis.high)
    return IntDistribution(int(low), int(high), log=axis.log) if whole else FloatDistribution(low, high, log=axis.log)


def _label(place: int, choice: float | None) -> str:
    return f"{place:03d}|{'all' if choice is None else choice}"


def _labelled(value: float | None, distribution: BaseDistribution) -> Any:
    """A choice's label; any other value as it is."""
    if not isinstance(distribution, CategoricalDistribution):
        return value
    labels = [_label(place, value) for place in range(len(distribution.choices))]
    return next(label for label in labels if label in distribution.choices)


def _restyle_curves(axes: Axes, trials: Sequence[FrozenTrial], best: int | None) -> None:
    """The best in front, and a colour for what was pruned; Optuna gives each of many trials one."""
    without_legend(axes)
    seen = set()
    for line, trial in zip(axes.lines, trials, strict=True):
        is_best, is_pruned = trial.number == best, trial.state is TrialState.PRUNED
        words = "the best" if is_best else "pruned" if is_pruned else "complete"
        line.set(
            color="C0" if is_best else "C1" if is_pruned else "grey",
            linewidth=2.2 if is_best else 1,
            alpha=1 if is_best else 0.55,
            zorder=3 if is_best else 2,
            label="_" if words in seen else words,
        )
        seen.add(words)
    axes.legend(fontsize=7)
