"""The commands `fedbench suites` and `fedbench run`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.exits import EXIT_BAD_INPUT, EXIT_FAILED, say
from fedbench.cli.options import (
    AddressOption,
    CpusOption,
    DataDirOption,
    DeviceOption,
    ExecutorOption,
    GpusOption,
    JsonOption,
    MemoryOption,
    OverridesOption,
    SeedsOption,
    SuiteArgument,
    TrackingUriOption,
    WorkersOption,
    console,
    print_json,
    store_option,
)
from fedbench.util.errors import ClusterError, InterruptedSuiteError

if TYPE_CHECKING:
    from fedbench.runs.suite_run import Executor, Outcome
    from fedbench.suites.schema import Suite


def add_run_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("suites", epilog="Example: fedbench suites client-grid-mnist")(suites_command)
    app.command("run", epilog="Example: fedbench run client-grid-mnist --seeds 0-2 --set learning_rate=0.05")(
        run_command
    )


def suites_command(
    name: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="Show the cells of this suite.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the suites, or the cells of one suite."""
    from fedbench.reports.listings import cells_table, suite_summary, suites_table
    from fedbench.suites.loading import load_suite, load_suites

    if name is not None:
        suite = load_suite(name)
        if as_json:
            print_json(suite_summary(suite))
        else:
            console().print(cells_table(suite))
        return
    suites, wrong = load_suites()
    if as_json:
        print_json({"suites": [suite_summary(suite) for suite in suites]})
    else:
        console().print(suites_table(suites))
    for error in wrong:
        say(f"error: {error}")
    if wrong:
        raise typer.Exit(EXIT_BAD_INPUT)


def run_command(
    suite_name: SuiteArgument,
    seeds: SeedsOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SCENARIO", help="Only this scenario; may be repeated.", show_default=False),
    ] = None,
    overrides: OverridesOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run finished runs again too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and estimate how long it takes.")
    ] = False,
    workers: WorkersOption = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile the first run: where its time goes; one worker.")
    ] = False,
    store_models: Annotated[
        bool, typer.Option("--models/--no-models", help="Store each run's final model, or only its numbers.")
    ] = True,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
    tracking_uri: TrackingUriOption = None,
    device: DeviceOption = "cpu",
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    cpus_per_run: CpusOption = None,
    gpus_per_run: GpusOption = None,
    memory_per_run: MemoryOption = None,
) -> None:
    """Run a suite: every seed of every cell, tracked in MLflow. Finished runs are skipped, interrupted ones resume."""
    from fedbench.suites.loading import load_suite, parse_overrides, parse_seeds

    suite = load_suite(
        suite_name,
        overrides=parse_overrides(overrides or []),
        seeds=None if seeds is None else parse_seeds(seeds),
        only=only or (),
    )
    if profile:
        from fedbench.runs.profiling import Recorder, require_one_worker

        workers = require_one_worker(workers, executor)
    if dry_run:
        _dry_run(suite, workers, as_json)
        return

    from fedbench.reports.results import cell_results, count_runs, num_failed, results_table, suite_json
    from fedbench.runs.data import DataSource
    from fedbench.runs.suite_run import run_suite
    from fedbench.tracking.mlflow.tracker import MlflowTracker
    from fedbench.util.progress import progress

    per_run = (cpus_per_run, gpus_per_run, memory_per_run)
    execute, device = _executor(executor, address, per_run, workers, device)
    data = DataSource(data_dir, device)
    data.require(cell.spec for cell in suite.cells)
    tracker = MlflowTracker(suite, tracking_uri)
    recorder = None
    if profile:
        from fedbench.executors import in_process

        recorder = Recorder(tracker.checkpoints.parent / "profiles" / suite.name)
        execute = recorder.recorded(in_process.execute)
    outcomes: list[Outcome] = []
    with (
        _interruptible(suite, outcomes, fresh),
        progress(suite.name, len(suite.runs), "runs") as advance,
        closing(run_suite(suite.runs, data, tracker, execute, fresh, store_models)) as running,
    ):
        for outcome in running:
            outcomes.append(outcome)
            advance(1, outcome.run.cell)
    from fedbench.reports.profile import profile_json, profile_summary

    if as_json:
        print_json(suite_json(suite, outcomes) | ({"profile": profile_json(recorder.profile)} if recorder else {}))
    else:
        screen = console()
        screen.print(results_table(suite.name, suite.question, cell_results(suite, outcomes)))
        compare = f"Compare them in the MLflow UI: fedbench ui {suite.name}{store_option(tracking_uri)}"
        screen.print(f"{count_runs(outcomes)} {compare}", soft_wrap=True)
    if recorder:
        typer.echo(profile_summary(recorder), err=True)
    if num_failed(outcomes):
        raise typer.Exit(EXIT_FAILED)


def _executor(
    name: str,
    address: str | None,
    per_run: tuple[int | None, float | None, float | None],
    workers: int | None,
    device: str,
) -> tuple[Executor, str]:
    """The executor that the options ask for, and the device that runs are computed on."""
    from fedbench.executors import choose_executor, cluster_executor
    from fedbench.executors.needs import Needs
    from fedbench.runs.data import choose_device

    if name == "ray":
        needs = Needs.of(device, *per_run)
        return cluster_executor(address, needs, workers), needs.device
    if address is not None or any(each is not None for each in per_run):
        raise ClusterError("--address and the --...-per-run options need --executor ray")
    return choose_executor(workers), choose_device(device)


@contextmanager
def _interruptible(suite: Suite, outcomes: list[Outcome], fresh: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        done = f"{len(outcomes)} of {len(suite.runs)} runs are finished"
        same = "the same command without --fresh" if fresh else "the same command"
        raise InterruptedSuiteError(f"{done}; {same} resumes") from None


def _dry_run(suite: Suite, workers: int | None, as_json: bool) -> None:
    from fedbench.executors.workers import default_workers
    from fedbench.reports.listings import estimate_json, estimate_table
    from fedbench.runs.estimate import estimate_suite

    estimates = estimate_suite(suite)
    if as_json:
        print_json(estimate_json(suite, estimates))
    else:
        console().print(estimate_table(suite, estimates, workers or default_workers()))
