"""The commands `fedbench suites` and `fedbench run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.completion import complete_scenario, complete_suite
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
    print_advice,
    print_json,
    view_command,
)
from fedbench.util.advice import command
from fedbench.util.text import counted

if TYPE_CHECKING:
    from fedbench.suites.schema import Suite


def add_run_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("suites", epilog="Example: fedbench suites client-grid-mnist")(suites_command)
    app.command("run", epilog="Example: fedbench run client-grid-mnist --seeds 0-2 --set learning_rate=0.05")(
        run_command
    )


def suites_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[SUITE]", help="Show the cells of this suite.", autocompletion=complete_suite),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of suite files, for an editor.")
    ] = False,
    fields: Annotated[
        bool, typer.Option("--fields", help="List the fields that a scenario, and --set, can have.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the suites, or the cells of one suite."""
    if schema:
        from fedbench.suites.json_schema import suite_schema

        print_json(suite_schema())
        return
    if fields:
        from fedbench.reports.parts import fields_json, fields_table
        from fedbench.suites.catalogue import scenario_fields

        found = scenario_fields()
        if as_json:
            print_json(fields_json(found))
        else:
            console().print(fields_table(found))
        return
    from fedbench.reports.listings import cells_table, outline_summary, suite_summary, suites_table
    from fedbench.suites.listing import Outline, load_suites
    from fedbench.suites.loading import load_suite

    if name is not None:
        suite = load_suite(name)
        if as_json:
            print_json(suite_summary(suite))
        else:
            console().print(cells_table(suite))
        return
    suites, wrong = load_suites()
    if as_json:
        summaries = [outline_summary(each) if isinstance(each, Outline) else suite_summary(each) for each in suites]
        print_json({"suites": summaries})
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
        typer.Option(
            metavar="SCENARIO",
            help="Only this scenario; may be repeated.",
            show_default=False,
            autocompletion=complete_scenario,
        ),
    ] = None,
    overrides: OverridesOption = None,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Record under SUITE@NAME (default: with --set a name made of what is set).",
            show_default=False,
        ),
    ] = None,
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
    from fedbench.suites.variants import variant_of

    given = parse_overrides(overrides or [])
    suite = load_suite(
        suite_name,
        overrides=given,
        variant=variant_of(given) if variant is None else variant,
        seeds=None if seeds is None else parse_seeds(seeds),
        only=only or (),
    )
    if profile:
        from fedbench.runs.profiling import require_one_worker

        workers = require_one_worker(workers, executor)
    if dry_run:
        _dry_run(suite, workers, as_json)
        return

    from fedbench.runs.launch import Where, track_suite

    outcomes, recorder = track_suite(
        suite,
        Where(
            device=device,
            workers=workers,
            executor=executor,
            address=address,
            cpus_per_run=cpus_per_run,
            gpus_per_run=gpus_per_run,
            memory_per_run=memory_per_run,
        ),
        data_dir=data_dir,
        tracking_uri=tracking_uri,
        fresh=fresh,
        store_models=store_models,
        profile=profile,
    )
    from fedbench.api import record_answers

    if any(outcome.executed for outcome in outcomes):
        record_answers(suite.name, tracking_uri)
    from fedbench.reports.answers import answer_all, answer_lines
    from fedbench.reports.profile import profile_json, profile_summary
    from fedbench.reports.results import cell_results, count_runs, num_failed, results_table, suite_json
    from fedbench.tracking.mlflow.database import chosen_store

    if as_json:
        print_json(suite_json(suite, outcomes) | ({"profile": profile_json(recorder.profile)} if recorder else {}))
    else:
        screen = console()
        results = cell_results(suite, outcomes)
        screen.print(results_table(suite.name, suite.question, results))
        answers = answer_all(results, suite.contrast)
        lines = answer_lines(answers)
        for line in lines:
            screen.print(line)
        if more := len(answers) - len(lines):
            place = chosen_store(tracking_uri)
            all_of_them = command("fedbench", "answer", suite.name, tracking_uri=place)
            print_advice(screen, f"{counted(more, 'more answer')}:", all_of_them)
        done = f"{count_runs(outcomes)} Compare them in the MLflow UI:"
        print_advice(screen, done, view_command(suite.name, tracking_uri))
    if recorder:
        typer.echo(profile_summary(recorder), err=True)
    if num_failed(outcomes):
        raise typer.Exit(EXIT_FAILED)


def _dry_run(suite: Suite, workers: int | None, as_json: bool) -> None:
    from fedbench.executors.workers import default_workers
    from fedbench.reports.listings import estimate_json, estimate_table
    from fedbench.runs.estimate import estimate_suite

    estimates = estimate_suite(suite)
    if as_json:
        print_json(estimate_json(suite, estimates))
    else:
        console().print(estimate_table(suite, estimates, workers or default_workers()))
