"""The command `fedbench tune`: search local epochs and learning rate, and test the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.completion import complete_scenario
from fedbench.cli.exits import EXIT_FAILED, say
from fedbench.cli.options import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    OverridesOption,
    SuiteArgument,
    TrackingUriOption,
    console,
    print_advice,
    print_json,
    view_command,
)
from fedbench.executors.needs import MOST_WORKERS
from fedbench.util.advice import command
from fedbench.util.errors import FedbenchError, InterruptedSuiteError, SuiteError
from fedbench.util.progress import loading, phase, progress

MOST_SECONDS = 366 * 24 * 3600

if TYPE_CHECKING:
    from fedbench.runs.suite_run import Outcome
    from fedbench.tuning.results import TuningResult
    from fedbench.tuning.study import Tuning


def add_tune_command(app: typer.Typer) -> None:
    """Add this module's command to the command line."""
    app.command("tune", epilog="Example: fedbench tune quickstart --scenario more-data --trials 20")(tune_command)


def tune_command(
    suite_name: SuiteArgument,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="The scenario (default: the file's, else the first).",
            show_default=False,
            autocompletion=complete_scenario,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials in all (default: the file's, else 40).", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, max=MOST_SECONDS, help="Seconds after which no trial is begun.", show_default=False),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="accuracy, balanced_accuracy, loss or rounds_to_target.", show_default=False),
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="The accuracy that rounds_to_target is about.", show_default=False)
    ] = None,
    budget: Annotated[str | None, typer.Option(help="What is held equal: rounds or steps.", show_default=False)] = None,
    pruning: Annotated[
        bool | None, typer.Option("--pruning/--no-pruning", help="End bad trials early.", show_default=False)
    ] = None,
    overrides: OverridesOption = None,
    sampler_seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the search.")] = 0,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_WORKERS,
            help="Trials computed at once. One alone uses all cores and can be repeated exactly.",
        ),
    ] = 1,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna's storage (default: optuna.db next to the MLflow store).", show_default=False),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the best values to this suite file.", show_default=False)
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Register the best model under this name, alias best.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
    tracking_uri: TrackingUriOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Search local epochs and learning rate on held-out training data, and test the best against the default.

    The same command resumes an interrupted study, works on it alongside other commands, or adds trials to it.
    """
    from fedbench.suites.loading import load_suite, parse_overrides
    from fedbench.tuning.plan import make_plan

    given = parse_overrides(overrides or [])
    suite = load_suite(suite_name, overrides=given)
    plan = make_plan(
        suite,
        scenario=scenario,
        objective=objective,
        trials=trials,
        target=target,
        budget=budget,
        pruning=pruning,
        sampler_seed=sampler_seed,
    )
    if save:
        from fedbench.tuning.save import require_new_file

        require_new_file(save)
    if register is not None:
        _require_model_name(register)
    for note in plan.notes:
        say(note)
    with loading(f"tuning {plan.suite}", "PyTorch, MLflow and Optuna"):
        from fedbench.runs.data import DataSource, choose_device
        from fedbench.tuning.study import Tuning

        data = DataSource(data_dir, choose_device(device))
        data.require([plan.spec])
        phase("setting up the store and the study")
        tuning = Tuning(plan, data, tracking_uri, storage)
    with _interruptible(tuning):
        result = _search_and_test(tuning, workers, timeout)
        registered = _register(tuning, result, register) if register else None
    if save and result.best:
        from fedbench.tuning.save import save_suite

        save_suite(save, result, result.best, suite.seeds)
    from fedbench.reports.tuning import tuning_table
    from fedbench.tracking.mlflow.database import chosen_store
    from fedbench.tuning.study_records import study_json

    if as_json:
        print_json(study_json(result))
    else:
        screen = console()
        screen.print(tuning_table(result))
        if registered:
            screen.print(registered)
        if save and result.best:
            run = command("fedbench", "run", save, tracking_uri=chosen_store(tracking_uri))
            print_advice(screen, f"The best values are in {save}:", run)
        print_advice(screen, "The trials in the MLflow UI:", view_command(f"{plan.suite}.tuning", tracking_uri))
    if result.best is None:
        raise typer.Exit(EXIT_FAILED)


def _search_and_test(tuning: Tuning, workers: int, timeout: float | None) -> TuningResult:
    from dataclasses import asdict

    from fedbench.executors import choose_executor
    from fedbench.executors.workers import default_workers
    from fedbench.reports.tuning_figures import study_figures

    plan = tuning.plan
    deadline = None if timeout is None else time.monotonic() + timeout
    with (
        progress(f"tuning {plan.suite}", plan.trials, "trials") as advance,
        closing(tuning.trials(choose_executor(workers, default_workers()), deadline)) as computing,
    ):
        done = 0
        for trials in computing:
            if len(trials) > done:
                advance(len(trials) - done, trials[-1].state)
                done = len(trials)
    outcomes: list[Outcome] = []
    ended = tuning.ended()
    num_runs = len(tuning.candidates(ended)) * len(tuning.fresh_seeds(ended))
    with (
        progress(f"testing {plan.suite}", num_runs, "runs") as advance,
        closing(tuning.test(ended, choose_executor())) as testing,
    ):
        for outcome in testing:
            outcomes.append(outcome)
            advance(1, outcome.run.cell)
    result = tuning.result(ended, outcomes)
    tuning.study_run.finish(result, [asdict(figure) for figure in study_figures(result)])
    return result


@contextmanager
def _interruptible(tuning: Tuning) -> Iterator[None]:
    """If the command ends early, for whatever reason, the study's run does not look alive afterwards."""
    try:
        yield
    except KeyboardInterrupt:
        tuning.study_run.kill("interrupted")
        done = f"{len(tuning.ended())} of {tuning.plan.trials} trials have ended"
        raise InterruptedSuiteError(f"{done}; the same command resumes") from None
    except BaseException as error:
        with suppress(FedbenchError):  # of a store that is gone, the first error is the one to show
            tuning.study_run.kill(str(error))
        raise


def _require_model_name(name: str) -> None:
    """Refuse a name that MLflow would refuse after the search."""
    if not name.strip() or set(name) & set("/:") or name in (".", ".."):
        raise SuiteError(f"--register {name!r}: a model's name contains neither / nor : and is not empty")


def _register(tuning: Tuning, result: TuningResult, name: str) -> str:
    from fedbench.tuning.results import Answer
    from fedbench.tuning.verification import dead

    lost = dead(result.best) if result.best else None
    if result.best is None or result.answer is not Answer.BETTER or lost:
        return f"No model is registered as {name}: the best {lost or 'is not shown to be better than the default'}."
    return tuning.study_run.register(name, result.best)
