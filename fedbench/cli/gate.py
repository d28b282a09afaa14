"""The commands of the gate: make a baseline, check against it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.completion import complete_suite
from fedbench.cli.exits import EXIT_FAILED, say
from fedbench.cli.options import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    SeedsOption,
    SuiteArgument,
    TrackingUriOption,
    WorkersOption,
    console,
    print_json,
)
from fedbench.gate import BASELINES
from fedbench.util.errors import BaselineError
from fedbench.util.files import require_writable
from fedbench.util.progress import loading
from fedbench.util.text import counted

if TYPE_CHECKING:
    from fedbench.gate.baseline import Baseline
    from fedbench.gate.checks import AccuracyCheck, Gate, SpeedCheck
    from fedbench.runs.data import DataSource
    from fedbench.suites.schema import Suite

BaselinesOption = Annotated[Path, typer.Option("--baselines", metavar="FOLDER", help="Where the baselines are.")]
MarginOption = Annotated[
    float | None,
    typer.Option(
        "--margin",
        metavar="FRACTION",
        help="The equivalence margin: a difference that does not matter (default: the baseline's, else 0.01, a point).",
        show_default=False,
    ),
]


def add_gate_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("baseline", epilog='Example: fedbench baseline quickstart --reason "clients train longer"')(
        baseline_command
    )
    app.command("check", epilog="Example: fedbench check quickstart --junit check.xml")(check_command)


def baseline_command(
    suite_name: SuiteArgument,
    reason: Annotated[
        str | None, typer.Option(help="Why an existing file changes; kept in it.", show_default=False)
    ] = None,
    margin: MarginOption = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What is judged: accuracy (default) or balanced_accuracy.", show_default=False),
    ] = None,
    reserve: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1000,
            help="Seeds beyond the suite's, which a check elsewhere computes where it suspects a change "
            "(default: as many as the baseline has, else 5).",
            show_default=False,
        ),
    ] = None,
    allow_collapsed: Annotated[
        bool, typer.Option("--allow-collapsed", help="Keep models that collapsed or diverged too.")
    ] = False,
    workers: WorkersOption = None,
    baselines: BaselinesOption = BASELINES,
    data_dir: DataDirOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Write what every run of a suite gives to a file, for `fedbench check` to compare with."""
    from fedbench.gate.baseline import dead_cells, new_baseline, read_baseline, require_judgeable, reserve_seeds
    from fedbench.gate.files import require_reason, write_stored
    from fedbench.suites.loading import load_suite

    suite, why = load_suite(suite_name), (reason or "").strip()
    path = baselines / f"{suite.name}.json"
    require_reason(path, why)
    require_writable(path)
    before = read_baseline(path, suite.name, suite_name) if path.exists() else None
    require_judgeable(margin, metric)
    more = reserve_seeds(suite, before, reserve)
    suite = load_suite(suite_name, seeds=(*suite.seeds, *more))
    with loading(suite.name, "PyTorch"):
        from fedbench.executors import choose_executor

        execute = choose_executor(workers, imports_ahead=True)
        from fedbench.gate.measure import measure_suite

        data = _data(data_dir, device)
    started = time.perf_counter()
    cells = measure_suite(suite, data, execute)
    baseline = new_baseline(suite, cells, data.device, why, before, margin, metric, allow_collapsed)
    if before:
        from fedbench.gate.accuracy import check_against_baseline
        from fedbench.gate.checks import Gate
        from fedbench.gate.terminal import gate_table

        accuracy = check_against_baseline(suite, before, cells, data.device, time.perf_counter() - started)
        if accuracy.cells:  # none, if every cell is another one
            console().print(gate_table(Gate(accuracy, None), verdict=False))
    if before and baseline.model_copy(update={"history": before.history}) == before:
        typer.echo(f"{path} is up to date; nothing was written.")
        return
    write_stored(path, baseline)
    if dead := dead_cells(cells):
        say(f"warning: the baseline keeps models that collapsed or diverged: {'; '.join(dead)}")
    kept = f" ({len(more)} of {len(suite.seeds)} seeds in reserve)" if more else ""
    done = f"{path}: {counted(len(cells), 'cell')}, {counted(len(suite.runs), 'run')}{kept}."
    typer.echo(f"{done} Commit it with the code that it was measured on.")


def check_command(
    suite_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUITE]", help="A suite's name, or a path to its YAML file.", autocompletion=complete_suite
        ),
    ] = None,
    seeds: SeedsOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Inconclusive results fail too, and so does what is better.")
    ] = False,
    ignore_bits: Annotated[
        bool, typer.Option("--ignore-bits", help="Judge by statistics over seeds alone: changed bits do not fail.")
    ] = False,
    margin: MarginOption = None,
    power: Annotated[
        bool, typer.Option("--power", help="Say how many seeds each cell would need to show the margin.")
    ] = False,
    speed: Annotated[
        bool,
        typer.Option(
            "--speed", help="Compare the speed of the suite's parts with --against; without a suite, fedbench's own."
        ),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="REV", help="The revision to compare the speed with.", show_default=False),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help="How long --against may measure while the answer is unclear (default: 4).",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    baselines: BaselinesOption = BASELINES,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result as JUnit XML.", show_default=False)
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result as Markdown.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    log: Annotated[bool, typer.Option(help="Record the result in the store, in the experiment regression.")] = True,
    data_dir: DataDirOption = None,
    tracking_uri: TrackingUriOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Check that the model is not worse than its baseline, and the code not slower; exit code 1 if it is."""
    if suite_name is None and not speed:
        raise BaselineError("name a suite, give --speed --against REV, or both: fedbench check quickstart")
    if suite_name is None:
        of_suite = {"--seeds": seeds, "--ignore-bits": ignore_bits, "--margin": margin, "--power": power}
        _refuse(of_suite, "needs a suite: name one")
    if not speed:
        _refuse({"--against": against, "--minutes": minutes}, "needs --speed: give it too")
    elif against is None:
        raise BaselineError("--speed needs --against: give a revision too, such as main")
    for path in filter(None, (junit, markdown)):
        require_writable(path)
    check_suite = _suite_check(suite_name, seeds, baselines, margin, ignore_bits) if suite_name else None
    if against and check_suite:
        from fedbench.gate.suite_speed import timed_works

        timed_works(check_suite.suite, against)  # so that what is wrong is found now
    from fedbench.gate.checks import Gate
    from fedbench.gate.document import gate_json, write_pages
    from fedbench.gate.terminal import gate_table

    with loading("checking", "PyTorch and MLflow"):
        check = check_suite.loaded(workers) if check_suite else None
        record = _recorder(tracking_uri, check_suite) if log else None
        data = _data(data_dir, device) if check_suite else None
    accuracy = check(data) if check and data else None
    gate = Gate(accuracy, _check_speed(against, minutes, check_suite, data) if against else None, strict)
    if as_json:
        print_json(gate_json(gate))
    else:
        console().print(gate_table(gate, power))
    write_pages(gate, junit, markdown)
    if record:
        record(gate)
    if not gate.has_passed:
        raise typer.Exit(EXIT_FAILED)


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse options that would have no effect."""
    for name, value in options.items():
        if value not in (None, False):
            raise BaselineError(f"{name} {why}")


@dataclass(frozen=True)
class _SuiteCheck:
    """Checks a suite against its baseline, that in the file `path`."""

    suite: Suite
    baseline: Baseline
    path: Path
    ignore_bits: bool
    uses_reserve: bool

    def loaded(self, workers: int | None) -> Callable[[DataSource], AccuracyCheck]:
        """The check, with what it needs imported."""
        from fedbench.executors import choose_executor

        execute = choose_executor(workers, imports_ahead=True)
        from fedbench.gate.accuracy import check_suite

        return lambda data: check_suite(
            self.suite, self.baseline, self.path, data, execute, self.ignore_bits, self.uses_reserve
        )


def _suite_check(
    suite_name: str, seeds: str | None, baselines: Path, margin: float | None, ignore_bits: bool
) -> _SuiteCheck:
    """The check of a suite; a baseline that does not fit is found now."""
    from fedbench.gate.baseline import comparable_baseline
    from fedbench.suites.loading import load_suite, parse_seeds

    suite = load_suite(suite_name, seeds=None if seeds is None else parse_seeds(seeds))
    path = baselines / f"{suite.name}.json"
    baseline = comparable_baseline(path, suite, seeds is not None, margin)
    return _SuiteCheck(suite, baseline, path, ignore_bits, uses_reserve=seeds is None)


def _data(data_dir: Path | None, device: str) -> DataSource:
    from fedbench.runs.data import DataSource, choose_device

    return DataSource(data_dir, choose_device(device))


def _check_speed(against: str, minutes: float | None, of: _SuiteCheck | None, data: DataSource | None) -> SpeedCheck:
    from fedbench.gate.speed import MAX_SECONDS, check_against
    from fedbench.gate.suite_speed import check_suite_against

    seconds = MAX_SECONDS if minutes is None else 60 * minutes
    return check_suite_against(of.suite, data, against, seconds) if of and data else check_against(against, seconds)


def _recorder(tracking_uri: str | None, of: _SuiteCheck | None) -> Callable[[Gate], str]:
    """The function that records a check; a store that cannot be written is found now."""
    from fedbench.gate.recording import open_regression, record_gate
    from fedbench.tracking.mlflow.store import default_tracking_uri
    from fedbench.util.commits import commit_of

    uri = tracking_uri or default_tracking_uri()
    client, commit = open_regression(uri), commit_of(of.suite.path.parent if of else None, Path.cwd())
    if commit.is_shallow:
        say("the repository lacks history: the check is recorded at too small a step (see: git fetch --unshallow)")
    return lambda gate: record_gate(client, gate, commit)
