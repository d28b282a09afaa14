"""Checks in MLflow: each is a run of the experiment `regression`, whose step is the number of commits."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING

from mlflow.entities import Metric

from fedbench.gate.document import gate_json
from fedbench.gate.markdown import gate_markdown
from fedbench.gate.views import REGRESSION, SPEED_ALONE, regression_view_tags
from fedbench.tracking.mlflow.describe import NOTE
from fedbench.tracking.mlflow.experiments import OwnExperiment, all_or_none, open_own, own_experiment_id
from fedbench.util.commits import Commit, short_commit
from fedbench.util.environment import SOURCE_TAGS, version_tags

if TYPE_CHECKING:
    from fedbench.gate.checks import AccuracyCheck, Gate, SpeedCheck
    from fedbench.tracking.mlflow.client import StoreClient

HOW_TO_READ = """Has the model become worse, or the code slower, by commit?

**How to read it.** A run is one `fedbench check`. Group the runs by the tag `fedbench.suite`; the step is the number of
commits up to the one that was checked. `accuracy/<cell>` is the mean over the seeds, `difference/<cell>` is that less
the baseline's; both are fractions. `ratio/<benchmark>` is the time over the time before: 1.1 is 10 % slower. The tag
`fedbench.outcome` says whether the check passed, the description of each run why not.
"""
EXPERIMENT = OwnExperiment(REGRESSION, 1, "fedbench check", HOW_TO_READ)
ARTIFACT = "gate.json"
NAMES = (
    "fedbench.names"  # the tag with the cells and benchmarks that `shown_name` cannot tell from their metrics' names
)
MAX_TEXT = 5_000  # characters in a run's tag; MLflow allows more, some servers do not
LINES = 4  # in one chart of a view


def open_regression(uri: str) -> StoreClient:
    """Open the store and find out whether a check can be recorded in it; see `open_own`."""
    return open_own(EXPERIMENT, uri)


def record_gate(client: StoreClient, gate: Gate, commit: Commit) -> str:
    """Record a check of a commit atomically: after an error, the run is deleted.

    Returns the run's id. Its description is the check in Markdown as far as there is room, its artifact the JSON.
    """
    metrics = gate_metrics(gate)
    experiment_id = own_experiment_id(client, EXPERIMENT, regression_view_tags(_charts(gate, metrics)))
    with all_or_none(client) as created:
        name = f"{suite_of(gate)} {short_commit(commit.name)}"
        tags = _tags(gate) | commit.tags | version_tags() | {NOTE: shortened(gate_markdown(gate))}
        run_id = str(client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)
        created.append(run_id)
        now = int(time.time() * 1000)
        points = [Metric(key, value, now, commit.count) for key, value in metrics.items()]
        client.log_all(run_id, points, _params(gate))
        client.log_text(run_id, json.dumps(gate_json(gate), indent=2, allow_nan=False), ARTIFACT)
        client.set_terminated(run_id)
    return run_id


def suite_of(gate: Gate) -> str:
    """The name of the check in the experiment: its suite's, or that of a check of the speed alone."""
    return gate.accuracy.suite if gate.accuracy else SPEED_ALONE


def gate_metrics(gate: Gate) -> dict[str, float]:
    """The metrics of a check by name, the finite ones; docs/reference/mlflow.md has their units."""
    values = {"failures": float(len(gate.failures))}
    if gate.accuracy:
        values |= _accuracy_metrics(gate.accuracy)
    if gate.speed:
        values |= _speed_metrics(gate.speed)
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _accuracy_metrics(accuracy: AccuracyCheck) -> dict[str, float]:
    names = metric_names(each.cell.label for each in accuracy.cells)
    values: dict[str, float] = {}
    for each in accuracy.cells:
        name = names[each.cell.label]
        values[f"{accuracy.metric}/{name}"] = each.now.mean
        values[f"difference/{name}"] = each.difference
        values[f"seeds/{name}"] = len(each.now.values)
        if each.now.std is not None:
            values[f"std/{name}"] = each.now.std
        values |= _interval(name, each.interval)
    known = [each.difference for each in accuracy.cells if math.isfinite(each.difference)]
    return values | ({"worst_difference": min(known)} if known else {})


def _speed_metrics(speed: SpeedCheck) -> dict[str, float]:
    names = metric_names(each.name for each in speed.benchmarks)
    values = {f"ratio/{names[each.name]}": each.ratio for each in speed.benchmarks}
    known = [value for value in values.values() if math.isfinite(value)]
    for each in speed.benchmarks:
        values |= _interval(names[each.name], each.interval)
    return values | ({"largest_ratio": max(known)} if known else {})


def _interval(name: str, interval: tuple[float, float] | None) -> dict[str, float]:
    return dict(zip((f"interval_low/{name}", f"interval_high/{name}"), interval or (), strict=False))


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """Each name as a metric may be called in MLflow: ``grid init=shared`` is ``grid init:shared``.

    And ``average[cnn-10]`` is ``average:cnn-10``. If names become equal, the later ones get a number.
    """
    found: dict[str, str] = {}
    for name in names:
        marked = re.sub(r"[=\[]", ":", name.replace("]", ""))
        plain = re.sub(r"[^\w\-. :]", "_", marked, flags=re.ASCII)[:200].strip(".") or "_"
        number, numbered = 1, plain
        while numbered in found.values():
            number += 1
            numbered = f"{plain}:{number}"
        found[name] = numbered
    return found


def shown_name(name: str) -> str:
    """The cell or the benchmark of a metric's name: ``grid init:shared`` is ``grid init=shared``."""
    if " " in name or ":" not in name:
        return name.replace(":", "=")
    benchmark, _, params = name.partition(":")
    return f"{benchmark}[{params}]"


def _charts(gate: Gate, metrics: Mapping[str, float]) -> dict[str, list[list[str]]]:
    """The charts in the views of this suite, each with the metrics that are its lines, few enough to tell apart."""

    def charts(*prefixes: str) -> list[list[str]]:
        of_prefix = ([name for name in metrics if name.startswith(f"{prefix}/")] for prefix in prefixes)
        pairs = ([names[start : start + LINES] for start in range(0, len(names), LINES)] for names in of_prefix)
        return [chart for row in zip_longest(*pairs) for chart in row if chart]

    found = {gate.accuracy.suite: charts(gate.accuracy.metric, "difference")} if gate.accuracy else {}
    return found | ({SPEED_ALONE: charts("ratio")} if gate.speed else {})


def _tags(gate: Gate) -> dict[str, str]:
    cells = [each.cell.label for each in gate.accuracy.cells] if gate.accuracy else []
    benchmarks = [each.name for each in gate.speed.benchmarks] if gate.speed else []
    names = metric_names(cells) | metric_names(benchmarks)
    failed = [names[label] for label, _ in gate.failed]
    others = {name: label for label, name in names.items() if shown_name(name) != label}
    return {
        "fedbench.kind": "check",
        "fedbench.suite": suite_of(gate),
        "fedbench.outcome": "passed" if gate.has_passed else "failed",
        **({"fedbench.failed": shortened("\n".join(failed), "...")} if failed else {}),
        **({NAMES: text} if others and len(text := json.dumps(others)) <= MAX_TEXT else {}),
        **({"fedbench.machine": gate.speed.machine} if gate.speed else {}),
        **SOURCE_TAGS,
    }


def _params(gate: Gate) -> dict[str, object]:
    """What the check compares with, and its thresholds."""
    found: dict[str, object] = {"strict": gate.is_strict}
    if accuracy := gate.accuracy:
        found |= {"metric": accuracy.metric, "margin": accuracy.margin, "baseline_commit": accuracy.baseline_commit}
    if speed := gate.speed:
        found |= {"against": speed.against, "against_commit": speed.against_commit, "threshold": speed.threshold}
    return found


def shortened(text: str, left_out: str = f"\n\nThe rest is in the artifact `{ARTIFACT}`.") -> str:
    """A text that fits in a tag: its first lines, and a note that the others are left out."""
    if len(text) <= MAX_TEXT:
        return text
    kept = text[: MAX_TEXT - len(left_out)].splitlines()[:-1]
    return "\n".join(kept) + left_out
