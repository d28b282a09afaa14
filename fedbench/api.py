"""The Python API: run a suite from a notebook or a script, and read what was recorded, as tables.

    >>> import fedbench
    >>> table = fedbench.run("quickstart")
    >>> table.groupby("cell").accuracy.describe()

Both functions do what `fedbench run` and `fedbench report` do, with the same store, so that commands and calls may be
mixed. What is wrong raises a `FedbenchError` with one line that says what to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedbench.runs.launch import Where, track_suite
from fedbench.suites.checks import check_value
from fedbench.suites.loading import load_suite, parse_seeds
from fedbench.suites.objects import plain
from fedbench.suites.variants import variant_of
from fedbench.util.errors import InterruptedSuiteError, StoreError, SuiteError
from fedbench.util.files import with_home
from fedbench.util.imports import file_in_execution
from fedbench.util.progress import phase, progress
from fedbench.util.text import show

if TYPE_CHECKING:
    import pandas as pd

    from fedbench.suites.schema import Suite

PER = ("run", "round")

logger = logging.getLogger("fedbench")


def run(
    suite: str | Path | Mapping[str, Any],
    *,
    seeds: Sequence[int] | str | None = None,
    only: Sequence[str] | str = (),
    overrides: Mapping[str, Any] | None = None,
    variant: str | None = None,
    fresh: bool = False,
    workers: int | None = None,
    store_models: bool = True,
    data_dir: str | Path | None = None,
    tracking_uri: str | None = None,
    device: str = "cpu",
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
    memory_per_run: float | None = None,
) -> pd.DataFrame:
    """Run a suite, tracked in MLflow as `fedbench run` does: finished runs are skipped, interrupted ones resume.

    It shows its progress on standard error, and leaves PyTorch's threads and MLflow's tracking address as they were.

    Parameters
    ----------
    suite
        A suite's name, the path of its YAML file, or a mapping as in such a file: ``{"name": ..., "question": ...,
        "seeds": ..., "scenarios": [...]}``. In a mapping, paths are relative to the working directory. A part of your
        own may be given as the class or function itself if it comes from a file or a module that can be imported: its
        source is part of the run's identity. Parts are read from there again, not from memory.
    seeds
        Instead of the file's: numbers, or text such as ``"0-4"``.
    only
        Names of the scenarios to run; all if empty.
    overrides
        Fields that are set in every scenario; a list is an axis.
    variant
        The runs are recorded as those of the suite ``NAME@VARIANT``. None: of the suite itself, or with `overrides` of
        a variant whose name is made of them, such as ``quickstart@learning_rate=0.1``.
    fresh
        Run finished runs again too.
    workers
        Processes that compute; None: as many as the machine has cores and memory for. 1: this process alone.
    store_models
        Whether each run's final model is stored.
    data_dir
        The data folder; None: ``FEDBENCH_DATA_DIR``, else ``data``.
    tracking_uri
        The MLflow store; None: ``MLFLOW_TRACKING_URI``, else ``mlruns/mlflow.db``.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    executor, address, cpus_per_run, gpus_per_run, memory_per_run
        For a Ray cluster: as the options of `fedbench run`; memory in GiB.

    Returns
    -------
    pandas.DataFrame
        A row for each run, in the order of the suite: ``suite``, ``scenario``, ``cell``, ``seed``, ``verdict``,
        ``reason``, ``executed`` (whether it was computed now), every scenario field, and the measures of its last
        round such as ``accuracy``, ``balanced_accuracy``, ``loss`` and ``majority_rate``. Rates are fractions.
        ``client_accuracy`` is the mean accuracy of the clients' own models before the last average. What was not
        measured is NaN. A run that failed has its reason.

    Raises
    ------
    FedbenchError
        If the suite, an option, the data or the store is wrong.
    KeyboardInterrupt
        With text that says how much is finished; the same call resumes.
    """
    if path := file_in_execution():
        raise SuiteError(
            f"{path} runs a suite while it is read for a part: put the call of fedbench.run below "
            '`if __name__ == "__main__":`, or the part in a file of its own'
        )
    chosen = _load(suite, seeds, only, overrides, variant)
    where: dict[str, Any] = {
        "device": device,
        "workers": workers,
        "executor": executor,
        "address": address,
        "cpus_per_run": cpus_per_run,
        "gpus_per_run": gpus_per_run,
        "memory_per_run": memory_per_run,
    }
    place = with_home(tracking_uri) if isinstance(tracking_uri, str) else tracking_uri
    how: dict[str, Any] = {"tracking_uri": place, "fresh": fresh, "store_models": store_models}
    for name, value in {**where, **how, "data_dir": data_dir}.items():
        check_value(name, value, name, _Arguments)
    folder = None if data_dir is None else Path(with_home(str(data_dir)))
    try:
        with _process_as_before():
            outcomes, _ = track_suite(chosen, Where(**where), data_dir=folder, **how)
    except InterruptedSuiteError as error:
        raise KeyboardInterrupt(str(error)) from None
    if any(outcome.executed for outcome in outcomes):
        record_answers(chosen.name, place)
    from fedbench.reports.results import num_failed
    from fedbench.reports.tables import table_of_outcomes

    if failed := num_failed(outcomes):
        logger.warning("fedbench: %d of %d runs failed; the column reason says why", failed, len(outcomes))
    return table_of_outcomes(outcomes, chosen.cells)


def record_answers(name: str, tracking_uri: str | None = None) -> None:
    """Write into MLflow's descriptions and tags how cells compare; if that fails, a warning says so."""
    from fedbench.reports.answers import answer_all, answer_lines, cell_answers
    from fedbench.tracking.mlflow.answers import keep_answers
    from fedbench.tracking.mlflow.store import default_tracking_uri
    from fedbench.tracking.mlflow.suites import read_suite

    uri = tracking_uri or default_tracking_uri()
    try:
        with progress(name, 0):
            phase("comparing cells")
            stored = read_suite(name, uri)
            answers = answer_all(stored.current, stored.contrast)
            keep_answers(uri, stored, answer_lines(answers), cell_answers(answers))
    except StoreError as error:
        logger.warning("fedbench: the answers are not in MLflow: %s", error)


def results(
    suite: str | Path | Mapping[str, Any],
    *,
    per: Literal["run", "round"] = "run",
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """Read a suite's results from the store; nothing is run.

    Parameters
    ----------
    suite
        A suite's name, the path of its file, or a mapping, of which the name counts.
    per
        ``run``: a row for each run with the measures of its last round, as from `run`. ``round``: a row for each run
        and round, as from `fedbench export`.
    tracking_uri
        The MLflow store; None: ``MLFLOW_TRACKING_URI``, else ``mlruns/mlflow.db``.

    Returns
    -------
    pandas.DataFrame
        As from `run`, with ``run_id``, MLflow's id of the run, instead of ``executed``. Of several runs of one cell and
        seed, those count that have the code, data and device of the newest.

    Raises
    ------
    FedbenchError
        If the store cannot be read, or the suite has no runs in it.
    """
    _require(per in PER, "per", per, " or ".join(PER))
    check_value("tracking_uri", tracking_uri, "tracking_uri", _Arguments)
    is_name = isinstance(suite, str) and not suite.endswith((".yaml", ".yml"))
    name = str(suite) if is_name else _load(suite).name
    from fedbench.reports.tables import table_of_rounds, table_of_runs
    from fedbench.tracking.mlflow.store import default_tracking_uri
    from fedbench.tracking.mlflow.suites import read_suite

    stored = read_suite(name, with_home(tracking_uri or default_tracking_uri()))
    return table_of_runs(stored) if per == "run" else table_of_rounds(stored)


def _load(
    suite: str | Path | Mapping[str, Any],
    seeds: Sequence[int] | str | None = None,
    only: Sequence[str] | str = (),
    overrides: Mapping[str, Any] | None = None,
    variant: str | None = None,
) -> Suite:
    """The suite with these changes."""
    _require(isinstance(suite, str | Path | Mapping), "suite", suite, "a suite's name, a path or a mapping")
    numbers = plain(parse_seeds(seeds) if isinstance(seeds, str) else seeds)
    _require(numbers is None or isinstance(numbers, list), "seeds", seeds, "a list of whole numbers")
    _require(isinstance(only, Iterable), "only", only, "a list of scenarios")
    _require(overrides is None or isinstance(overrides, Mapping), "overrides", overrides, "a mapping of fields")
    given = plain(overrides or {})
    changes: Any = {
        "seeds": numbers,
        "only": [only] if isinstance(only, str) else list(only),
        "overrides": given,
        "variant": variant_of(given) if variant is None else variant,
    }
    return load_suite(plain(suite) if isinstance(suite, Mapping) else suite, **changes)


class _Arguments(Where):
    """What the arguments of `run` must be."""

    data_dir: str | Path | None = None
    tracking_uri: str | None = None
    fresh: bool = False
    store_models: bool = True


def _require(holds: bool, name: str, value: object, needed: str) -> None:
    if not holds:
        raise SuiteError(f"{name} is {show(value)}; it must be {needed}")


@contextmanager
def _process_as_before(data_dir: str | Path | None = None) -> Iterator[None]:
    """Put back what a run changes in this process: PyTorch's threads, MLflow's tracking address and the data folder."""
    import mlflow
    import torch

    threads, address = torch.get_num_threads(), os.environ.get("MLFLOW_TRACKING_URI")
    folder = os.environ.get("FEDBENCH_DATA_DIR", "")
    os.environ["FEDBENCH_DATA_DIR"] = folder if data_dir is None else with_home(str(data_dir))  # empty is as none
    try:
        yield
    finally:
        os.environ["FEDBENCH_DATA_DIR"] = folder
        torch.set_num_threads(threads)
        mlflow.set_tracking_uri(address)  # type: ignore[arg-type] # None is none
