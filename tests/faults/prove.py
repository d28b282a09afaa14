"""Put faults into copies of the tree, one at a time, and see whether `fedbench check` finds them.

    python tests/faults/prove.py --folder /tmp/here --repeats 50
    python tests/faults/prove.py --folder /tmp/elsewhere --other-environment --repeats 40
    python tests/faults/prove.py --folder /tmp/speed --speed --load --repeats 7

The baseline of the sound copy is written first; then each fault is applied to a copy of its own, and the check runs
there. A fault must be caught if it changes a number, and must change none if it only slows. At the end the sound copy
is checked, as often as --repeats says.

With --other-environment the checks run in another environment than the baseline's: with other instructions of the
processor, and with a copy that sums the clients' models in reverse. Bits are not compared there, and a fault must be
caught if its effect is above the minimum detectable effect. The baselines have as many seeds in reserve as a check
computes at first. Each repeat has seeds of its own, which are compared with themselves and with others.

With --speed each copy is compared with its own revision before the fault, and the faults that slow something must be
found; --load keeps a core busy meanwhile. The repeats are of each fault, and of the sound copy.

The tables are Markdown. Exit code 1 if a fault was not caught that must be, or if there were too many false alarms.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from faulty_trees import (
    ACCURACY,
    FAULTS,
    PERMUTED_SUM,
    SPEED,
    SUITE,
    Check,
    apply,
    check,
    fedbench,
    make_baseline,
    patched_tree,
    sound_tree,
    suite_with_seeds,
)

INSTRUCTIONS = (  # the first that changes a bit is used
    {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
)
HEADER = "| fault | caught by | worse in | better in | clearest effect | its MDE | seconds |"
SEEDS, RESERVE, FIRST_FRESH_SEED = 5, 5, 1_000  # of a repeat
ALLOWED = 0.05  # false alarms elsewhere, as a share of the repeats; in the baseline's environment there are none


def say(text: str) -> None:
    """Report progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def check_all(
    names: Sequence[str],
    tree: Path,
    baselines: Path,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    patches: Sequence[Path] = (),
) -> dict[str, Check]:
    """Check a copy with each fault, as many at once as there are cores."""
    options = ("--ignore-bits",) if patches else ()

    def check_one(name: str) -> Check:
        copy = patched_tree(tree, folder / name, *patches, FAULTS[name].patch)
        done = check(copy, SUITE, baselines, *options, "--workers", "1", settings=settings)
        shutil.rmtree(copy)
        say(f"{name}: {done.caught_by or 'not caught'} ({done.seconds:.0f} s)")
        return done

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(check_one, names), strict=True))


def print_table(title: str, checks: Mapping[str, Check], must: Sequence[str]) -> int:
    """Print the table; how many faults are wrong: not caught though they must be, or caught though they only slow."""
    print(f"\n### {title}\n\n{HEADER}\n|{' --- |' * (HEADER.count('|') - 1)}")
    for name, done in checks.items():
        cell = done.clearest
        effect, least = (
            (f"{100 * cell['difference']:.1f} in {cell['label']}", f"{100 * (cell['least_effect'] or 0):.1f}")
            if cell
            else ("", "")
        )
        counts = [f"{len(done.judged(judgement))} of {len(done.cells)}" for judgement in ("worse", "better")]
        print(f"| {' | '.join((name, done.caught_by, *counts, effect, least, f'{done.seconds:.0f}'))} |")
    wrong = [name for name in must if not checks[name].caught_by]
    wrong += [name for name in checks if name in SPEED and (checks[name].exit_code or checks[name].not_same)]
    caught = sum(bool(checks[name].caught_by) for name in must)
    print(f"\n{caught} caught of {len(must)} that must be, {len(checks)} faults in all")
    for name in wrong:
        print(f"wrong: {name}: {checks[name].stopped or 'see the table'}")
    sys.stdout.flush()
    return len(wrong)


def prove_here(tree: Path, baselines: Path, names: Sequence[str], repeats: int) -> bool:
    """In the baseline's environment every fault is found by its first bit, and the sound copy always passes."""
    checks = check_all(names, tree, baselines, tree.parent / "faulty")
    must = [name for name in names if name in ACCURACY]
    wrong = print_table("the baseline's environment", checks, must) if names else 0
    alarms = 0
    for number in range(repeats):
        done = check(tree, SUITE, baselines, "--workers", str(1 + number % 3))
        alarms += done.exit_code != 0 or bool(done.not_same)
        say(f"repeat {number + 1} of {repeats}: {alarms} false alarms, {done.seconds:.0f} s {done.stopped}")
    print(f"\n{alarms} false alarms in {repeats} repeats, with 1, 2 and 3 workers in turn")
    return not wrong and not alarms


def prove_elsewhere(tree: Path, baselines: Path, names: Sequence[str], repeats: int) -> bool:
    """Elsewhere, faults with a detectable effect are found, and false alarms are few."""
    settings = next((each for each in INSTRUCTIONS if check(tree, SUITE, baselines, settings=each).not_same), None)
    if settings is None:
        raise SystemExit("no other instructions change a bit on this processor")
    wrong = 0
    for title, changes, patches in (("other instructions", settings, []), ("permuted sum", {}, [PERMUTED_SUM])):
        names = [name for name in names if name in ACCURACY]
        checks = check_all(names, tree, baselines, tree.parent / title.replace(" ", "-"), changes, patches)
        must = [name for name, done in checks.items() if done.has_detectable_effect or not done.cells]
        wrong += print_table(title, checks, must) if names else 0
    alarms = {"the same seeds": 0, "other seeds": 0}
    for number in range(repeats):
        first = FIRST_FRESH_SEED + 3 * SEEDS * number
        folder = tree.parent / f"repeat-{number}"
        suite = suite_with_seeds(folder, range(first, first + SEEDS))
        kept = make_baseline(tree, suite, folder / "baselines", os.cpu_count() or 1, RESERVE)
        others = ("--seeds", f"{first + 2 * SEEDS}-{first + 3 * SEEDS - 1}")
        for pairing, options in (("the same seeds", ()), ("other seeds", others)):
            alarms[pairing] += bool(check(tree, suite, kept, *options, settings=settings).judged("worse"))
        say(f"repeat {number + 1} of {repeats}: {alarms}")
    print(f"\nFalse alarms with other instructions in {repeats} repeats of {SEEDS} seeds: {alarms}")
    return not wrong and max(alarms.values()) <= ALLOWED * repeats


def prove_speed(tree: Path, names: Sequence[str], repeats: int, minutes: float) -> bool:
    """Faults that slow something are found by a comparison with the revision before, and nothing else is."""
    print("| fault | slower in | seconds |\n| --- | --- | --- |")
    are_right = True
    for name in [*names, "none"]:
        found, seconds = [], []
        for _ in range(max(repeats, 1)):
            copy = patched_tree(tree, tree.parent / "copy")
            author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
            for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "before")):
                subprocess.run(["git", *author, *command], cwd=copy, check=True)  # noqa: S607 - on the PATH
            if name != "none":
                apply(FAULTS[name].patch, copy)
            options = ("--against", "HEAD", "--minutes", str(minutes), "--json", "--no-log")
            done = fedbench(copy, "check", "--speed", *options)
            if done.returncode not in (0, 1):
                raise SystemExit(done.stderr)
            speed = json.loads(done.stdout)["speed"]
            worse = [each for each in speed["benchmarks"] if each["judgement"] == "worse"]
            found.append(", ".join(f"{each['name']} {each['ratio'] or math.nan:.2f}" for each in worse))
            seconds.append(speed["seconds"])
            shutil.rmtree(copy)
            say(f"{name}: {found[-1] or 'not found'} ({seconds[-1]:.0f} s)")
        is_slower = name != "none" and FAULTS[name].slows != "nothing"
        share = sum(map(bool, found)) / len(found)
        are_right = are_right and (share >= 1 - ALLOWED if is_slower else share <= ALLOWED)
        times = f"{min(seconds):.0f} to {max(seconds):.0f}"
        print(f"| {name} | {sum(map(bool, found))} of {len(found)}: {'; '.join(filter(None, found))} | {times} |")
    return are_right


@contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Another process that computes on one core."""
    script = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10**6))\n"
    process = subprocess.Popen([sys.executable, "-c", script]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def main() -> int:
    """Parse, put faults in, check, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the copies; it must not exist")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, help="only these; none: only the repeats")
    parser.add_argument("--other-environment", action="store_true", help="check elsewhere than the baseline was made")
    parser.add_argument("--speed", action="store_true", help="compare the speed of each copy with the code before")
    parser.add_argument("--load", action="store_true", help="keep one core busy, with --speed")
    parser.add_argument("--minutes", type=float, default=4, help="of each comparison of the speed (default: 4)")
    parser.add_argument("--repeats", type=int, default=0, help="how often the sound copy is checked (default: 0)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    tree = sound_tree(options.folder.absolute() / "sound")
    if options.speed:
        with busy_core(options.load):
            are_right = prove_speed(tree, options.faults or SPEED, options.repeats, options.minutes)
        return int(not are_right)
    reserve = RESERVE if options.other_environment else 0
    baselines = make_baseline(tree, SUITE, tree.parent / "baselines", os.cpu_count() or 1, reserve)
    names = list(FAULTS) if options.faults is None else options.faults
    prove = prove_elsewhere if options.other_environment else prove_here
    return int(not prove(tree, baselines, names, options.repeats))


if __name__ == "__main__":
    sys.exit(main())
