"""Compare fedbench with other ways to do identical work: time, memory and accuracy.

    .venv/bin/python benchmarks/peers/compare.py --repeats 3 --out peers.json

A contender that fails is left out of that repeat. Exit code 1 if one fails, or the accuracies show that the work was
not the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import fedbench_run
import work
from measure import ContenderError, Measurement, cpu_model, end_on_request, measure, versions

from fedbench.bench import yardsticks

HERE = Path(__file__).parent
OWN = "fedbench"
SAME = 0.01  # final accuracies of the same work are not further apart
PEER_PACKAGES = ("torch", "torchvision", "flwr", "ray", "pfl")
OWN_PACKAGES = ("torch", "torchvision", "mlflow", "fedbench-mlflow")


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    data_dir: Path
    peers_python: Path
    processes: int
    repeats: int
    only: tuple[str, ...]
    out: Path | None


def command(name: str, options: Options, folder: Path) -> list[str]:
    """A contender's command line."""
    if name == OWN:
        return fedbench_run.command(options.data_dir, folder)
    start = [str(options.peers_python)]
    if name == "pfl_research":
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(options.processes)]
    return [*start, str(HERE.absolute() / f"{name}.py"), "--data-dir", str(options.data_dir)]


CONTENDERS = ("notebook", "flower", "pfl_research", OWN)


def run_contender(name: str, options: Options) -> Measurement:
    """One run of a contender in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="peers-") as name_of_folder:
        folder = Path(name_of_folder)
        measurement = measure(command(name, options, folder), folder)
        if name == OWN:
            measurement = replace(measurement, rounds=fedbench_run.rounds(measurement, folder))
    if len(measurement.rounds) != work.ROUNDS:
        told = f"{name} told of {len(measurement.rounds)} rounds, not {work.ROUNDS}"
        raise ContenderError(f"{told}:\n{measurement.output[-2_000:]}")
    return measurement


def figures(measurement: Measurement) -> dict[str, float]:
    """A run's five figures."""
    ends = [each.seconds for each in measurement.rounds]
    later = [end - before for before, end in pairwise(ends)]
    return {
        "first_round_seconds": ends[0],
        "later_round_seconds": statistics.median(later),
        "total_seconds": measurement.seconds,
        "peak_mb": measurement.peak_bytes / 1e6,
        "accuracy": measurement.rounds[-1].accuracy,
    }


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """Medians, smallest and largest values, and the ratio of a peer's median to fedbench's, as Markdown."""
    digits = {"first_round_seconds": 1, "later_round_seconds": 2, "total_seconds": 1, "peak_mb": 0}
    lines = [
        "| contender | to the end of round 1, s | a later round, s | all of it, s | peak memory, MB | accuracy, % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, repeats in runs.items():
        cells = [name]
        for key, places in digits.items():
            values = [each[key] for each in repeats]
            cell = f"{statistics.median(values):.{places}f} ({min(values):.{places}f}–{max(values):.{places}f})"
            if OWN in runs and name != OWN:
                ratio = statistics.median(values) / statistics.median(each[key] for each in runs[OWN])
                cell += f" {ratio:.1f}×"
            cells.append(cell)
        accuracies = [100 * each["accuracy"] for each in repeats]
        cells.append(f"{statistics.median(accuracies):.1f} ({min(accuracies):.1f}–{max(accuracies):.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="what fedbench data fetch mnist fills")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--processes", type=int, default=2, help="of pfl_research")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, metavar="NAME")
    parser.add_argument("--out", type=Path, help="a JSON file for every number")
    read = parser.parse_args(arguments)
    return Options(
        read.data_dir.resolve(),
        read.peers_python.absolute(),  # not resolved: a link's own name makes it this environment's Python
        read.processes,
        read.repeats,
        tuple(name for name in CONTENDERS if name in read.only),
        read.out,
    )


def main() -> None:
    """Run the contenders in turn and print the table."""
    options = parse()
    end_on_request()
    peer_versions, own_versions = (
        versions(options.peers_python, PEER_PACKAGES),
        versions(Path(sys.executable), OWN_PACKAGES),
    )
    if peer_versions["torch"] != own_versions["torch"]:
        sys.exit(f"torch is {own_versions['torch']} here and {peer_versions['torch']} in the peers' environment")
    speeds: list[float] = []
    measurements: dict[str, list[Measurement]] = {name: [] for name in options.only}
    failures: list[str] = []
    for repeat in range(1, options.repeats + 1):
        speeds.append(yardsticks.measure().flop_rate_all_cores / 1e9)
        for name in options.only:
            print(f"{repeat}/{options.repeats} {name}", file=sys.stderr, flush=True)
            try:
                measurements[name].append(run_contender(name, options))
            except ContenderError as error:
                failures.append(f"{name} in repeat {repeat}")
                print(error, file=sys.stderr, flush=True)
    runs = {name: [figures(each) for each in several] for name, several in measurements.items() if several}
    machine = {"cpu": cpu_model(), "cores": yardsticks.usable_cores(), "yardstick_gflops": speeds}
    print(table(runs))
    print()
    print(f"Medians of {options.repeats} (smallest–largest). Ratios are peer / fedbench.")
    if failures:
        print(f"Failed, and left out: {', '.join(failures)}.")
    print(f"Processor: {machine['cpu']}, {machine['cores']} cores; {', '.join(f'{s:.0f}' for s in speeds)} GFLOP/s.")
    print("Versions: " + ", ".join(f"{key} {value}" for key, value in (own_versions | peer_versions).items()) + ".")
    if options.out:
        raw = {name: [asdict(each) for each in several] for name, several in measurements.items()}
        content = {
            **machine,
            "versions": own_versions | peer_versions,
            "figures": runs,
            "runs": raw,
            "failures": failures,
        }
        options.out.write_text(json.dumps(content, indent=2) + "\n")
    accuracies = [each["accuracy"] for several in runs.values() for each in several]
    if failures:
        sys.exit(f"failed: {', '.join(failures)}")
    if max(accuracies) - min(accuracies) > SAME:
        sys.exit(f"this is not the same work: accuracies from {min(accuracies):.1%} to {max(accuracies):.1%}")


if __name__ == "__main__":
    main()
