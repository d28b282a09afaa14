"""The command line: parse, call, print. Nothing is decided here, and heavy modules are imported by the command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.bench import add_bench_command
from fedbench.cli.data import data_app
from fedbench.cli.exits import EXIT_BAD_INPUT, EXIT_FAILED, run_to_exit, say
from fedbench.cli.gate import add_gate_commands
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
)
from fedbench.cli.results import add_result_commands
from fedbench.cli.tune import add_tune_command
from fedbench.util.errors import ClusterError, InterruptedSuiteError

if TYPE_CHECKING:
    from fedbench.runs.suite_run import Executor, Outcome
    from fedbench.suites.schema import Suite

app = typer.Typer(
    name="fedbench",
    help="A benchmark suite of Federated Averaging whose every run is tracked in MLflow.",
    epilog="Start with: fedbench run quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; every error ends in one line on standard error and an exit code."""
    run_to_exit(lambda: app(standalone_mode=False, prog_name="fedbench"))


def _version(show: bool) -> None:
    if show:
        from fedbench import __version__

        typer.echo(f"fedbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("suites", epilog="Example: fedbench suites client-grid-mnist")
def suites_command(
    name: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="Show this suite's cells.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the suites, or one suite's cells."""
    from fedbench.reports.listings import cells_table, suite_summary, suites_table
    from fedbench.suites.loading import load_suite, load_suites

    if name is None:
        suites, wrong = load_suites()
        if as_json:
            print_json({"suites": [suite_summary(suite) for suite in suites]})
        else:
            console().print(suites_table(suites))
        for error in wrong:
            say(f"error: {error}")
        if wrong:
            raise typer.Exit(EXIT_BAD_INPUT)
        return
    suite = load_suite(name)
    if as_json:
        print_json(suite_summary(suite))
    else:
        console().print(cells_table(suite))


@app.command("run", epilog="Example: fedbench run client-grid-mnist --seeds 0-2 --set learning_rate=0.05")
def run_command(
    suite_name: SuiteArgument,
    seeds: SeedsOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SCENARIO", help="Only this scenario; may be repeated.", show_default=False),
    ] = None,
    overrides: OverridesOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run also what is finished already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and how long it may take.")] = False,
    workers: WorkersOption = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Record where the time of the first run goes; one worker.")
    ] = False,
    store_models: Annotated[
        bool, typer.Option("--models/--no-models", help="Store each run's final model, or its numbers alone.")
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
    """Run a suite: every seed of every cell, tracked in MLflow. Finished runs are skipped."""
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

    from fedbench.reports.profile import profile_json, profile_summary
    from fedbench.reports.suite_results import cell_results, num_failed, suite_json
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
    if as_json:
        print_json(suite_json(suite, outcomes) | ({"profile": profile_json(recorder.profile)} if recorder else {}))
    else:
        from fedbench.reports.table import results_table

        screen = console()
        screen.print(results_table(suite, cell_results(suite, outcomes)))
        screen.print(_summary(suite, outcomes, tracking_uri), soft_wrap=True)
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
        raise ClusterError("--address and what a run takes of a cluster need --executor ray")
    return choose_executor(workers), choose_device(device)


@contextmanager
def _interruptible(suite: Suite, outcomes: list[Outcome], fresh: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        done = f"{len(outcomes)} of {len(suite.runs)} runs are finished"
        same = "the same command without --fresh" if fresh else "the same command"
        raise InterruptedSuiteError(f"{done}; {same} goes on from here") from None


def _summary(suite: Suite, outcomes: list[Outcome], tracking_uri: str | None) -> str:
    from fedbench.reports.suite_results import count_runs
    from fedbench.tracking.mlflow.store import without_password

    option = f" --tracking-uri {shlex.quote(without_password(tracking_uri))}" if tracking_uri else ""
    return f"{count_runs(outcomes)} Compare them in the MLflow UI: fedbench ui {suite.name}{option}"


def _dry_run(suite: Suite, workers: int | None, as_json: bool) -> None:
    from fedbench.executors.workers import default_workers
    from fedbench.reports.listings import estimate_json, estimate_table
    from fedbench.runs.estimate import estimate_suite

    estimates = estimate_suite(suite)
    if as_json:
        print_json(estimate_json(suite, estimates))
    else:
        console().print(estimate_table(suite, estimates, workers or default_workers()))


add_tune_command(app)
add_result_commands(app)
add_gate_commands(app)
add_bench_command(app)
app.add_typer(data_app, name="data")


@app.command("ui", epilog="Example: fedbench ui quickstart --port 5001")
def ui_command(
    suite_name: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="Print the address of this suite's experiment.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5000,
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Open the MLflow UI on the store; Ctrl-C ends it."""
    from fedbench.tracking.mlflow.ui import serve

    recorded_by = {"speed": "bench", "regression": "check SUITE"}
    serve(suite_name, host, port, tracking_uri, recorded_by.get(suite_name or ""))


@app.command("doctor", epilog="Example: fedbench doctor")
def doctor_command(
    data_dir: DataDirOption = None, tracking_uri: TrackingUriOption = None, as_json: JsonOption = False
) -> None:
    """Check that everything that a run needs is here and works."""
    from fedbench.reports.listings import findings_table
    from fedbench.runs.doctor import examine

    findings = examine(data_dir, tracking_uri)
    if as_json:
        print_json({"findings": [vars(finding) for finding in findings]})
    else:
        console().print(findings_table(findings))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
