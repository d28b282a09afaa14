"""Put faults into copies of the tree, one at a time, and see whether `fedbench check` catches them.

The sound copy's baseline is written first; then each fault of fault_table.py is applied to a copy of its own, and the
check runs there. Faults of accuracy must be caught if they change a number. Faults of speed must change none: their
times are what `fedbench check --speed` is for. In the end the sound copy is checked, again and again.

    python tests/faults/prove.py --folder /tmp/faults --repeats 50
    python tests/faults/prove.py --folder /tmp/elsewhere --other-environment --repeats 40

With --other-environment the checks run in another environment than the baseline is of: with other instructions of the
processor, and, as a second variant, with a copy that sums the clients' models in reverse. Bits are not compared then,
and a fault must be caught if its effect is above both the margin and the least effect that the check states. Each of
the repeats there has seeds that no other has; they are compared with the same seeds before, and with other ones.

The table is Markdown. Exit code 1 if a fault was not caught that must be, or if there were too many false alarms.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fault_repeats import repeats_elsewhere, repeats_here
from fault_table import FAULTS, Fault
from fault_trees import HERE, PERMUTED_SUM, ROOT, Check, check, make_baseline, patched_tree, sound_tree

INSTRUCTIONS = (  # the first of which another bit comes is taken
    {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
)
HEADER = ("fault", "caught", "by", "worse in", "better in", "clearest effect", "its least effect", "seconds")


@dataclass(frozen=True)
class Variant:
    """Where checks run: with which settings, which further patches, and how the bits are treated."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[Path, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def is_baselines(self) -> bool:
        """Whether it is the baseline's own environment, where every bit must be as before."""
        return self == HERE_AND_NOW


HERE_AND_NOW = Variant("the baseline's environment")
PERMUTED = Variant("permuted sum", patches=(PERMUTED_SUM,), options=("--ignore-bits",))


def say(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


def check_all(
    names: Sequence[str], variant: Variant, tree: Path, suite: Path, baselines: Path, folder: Path, at_once: int
) -> dict[str, Check]:
    """Check a copy with each fault, so many at once, each on one core."""

    def check_one(name: str) -> Check:
        copy = patched_tree(tree, folder / name, *variant.patches, FAULTS[name].patch)
        done = check(copy, suite, baselines, *variant.options, settings=variant.settings, workers=1)
        shutil.rmtree(copy)
        say(f"{variant.name}: {name}: {is_caught(done) or 'not caught'} ({done.seconds:.0f} s)")
        return done

    with ThreadPoolExecutor(at_once) as pool:
        return dict(zip(names, pool.map(check_one, names), strict=True))


def is_caught(done: Check) -> str:
    """By what a fault is caught, in words; empty if it is not."""
    if done.exit_code == 1:
        found = ["changed: " + done.changed] if done.changed else []
        found += ["worse"] if done.judged("worse") else []
        return "; ".join(found) or f"it stopped: {done.stopped}"
    return "better (with --strict)" if done.judged("better") else ""


def must_be_caught(fault: Fault, done: Check, variant: Variant) -> bool:
    """Whether the check has no excuse: a number is another, and elsewhere by more than the least effect."""
    if fault.kind == "speed":
        return False
    if variant.is_baselines or not done.cells:
        return bool(done.not_same) or not done.cells
    return done.is_above_least_effect


def points(fraction: float | None) -> str:
    """A fraction in percentage points."""
    return "" if fraction is None else f"{100 * fraction:.1f}"


def print_table(checks: Mapping[str, Check], variant: Variant) -> list[str]:
    """Print the table; the names of the faults that were not caught though they must be, or are no faults of theirs."""
    print(f"\n### {variant.name} {' '.join(f'{key}={value}' for key, value in variant.settings.items())}\n")
    print(f"| {' | '.join(HEADER)} |")
    print(f"|{' --- |' * len(HEADER)}")
    wrong = []
    for name, done in checks.items():
        fault, caught, cell = FAULTS[name], is_caught(done), done.clearest
        if must_be_caught(fault, done, variant) and not caught:
            wrong.append(name)
        if fault.kind == "speed" and variant.is_baselines and (done.exit_code or done.not_same):
            wrong.append(name)
        effect = f"{points(cell['difference'])} in {cell['label']}" if cell else ""
        least = points(cell["least_effect"]) if cell else ""
        cells = [f"{len(done.judged(judgement))} of {len(done.cells)}" for judgement in ("worse", "better")]
        shown = (name, "yes" if caught else "no", caught, *cells, effect, least, f"{done.seconds:.0f}")
        print(f"| {' | '.join(shown)} |")
    return wrong


def tell(checks: Mapping[str, Check], variant: Variant, wrong: Sequence[str]) -> None:
    """Say how many were caught of those that must be."""
    accuracy = {name: done for name, done in checks.items() if FAULTS[name].kind == "accuracy"}
    must = [name for name, done in accuracy.items() if must_be_caught(FAULTS[name], done, variant)]
    found = [name for name in must if is_caught(accuracy[name])]
    which = "change a number" if variant.is_baselines else "have an effect above the stated least effect"
    print(f"\n{len(found)} caught of {len(must)} faults of accuracy that {which} (of {len(accuracy)} in all)")
    if not variant.is_baselines:
        print(f"{sum(bool(is_caught(done)) for done in accuracy.values())} caught in all")
    elif speed := [name for name in checks if name not in accuracy]:
        print(f"{sum(name in wrong for name in speed)} of {len(speed)} faults of speed change a number")
    for name in wrong:
        print(f"wrong: {name}: {checks[name].stopped or 'see the table'}")
    sys.stdout.flush()


def other_instructions(tree: Path, suite: Path, baselines: Path) -> Variant:
    """The first of `INSTRUCTIONS` that changes a bit here."""
    for settings in INSTRUCTIONS:
        done = check(tree, suite, baselines, settings=settings)
        say(f"{settings}: other bits in {len(done.not_same)} of {len(done.cells)} cells")
        if done.not_same:
            return Variant("other instructions", settings)
    raise SystemExit("no other instructions change a bit on this processor")


def suite_path(name: str) -> Path:
    """The file of a suite: this folder's, a shipped one's, or a path."""
    for path in (HERE / f"{name}.yaml", ROOT / "suites" / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path.absolute()
    raise SystemExit(f"there is no suite {name}")


def main() -> int:
    """Parse, put faults in, check, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the copies go; it must not be there yet")
    parser.add_argument("--suite", default="faults", help="faults, a shipped suite's name or a path (default: faults)")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, help="these faults alone; none: only the repeats")
    parser.add_argument("--other-environment", action="store_true", help="check elsewhere than the baseline was made")
    parser.add_argument("--repeats", type=int, default=0, help="how often the sound copy is checked (default: 0)")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="cores that are used")
    options = parser.parse_args()
    folder, suite = options.folder.absolute(), suite_path(options.suite)
    folder.mkdir(parents=True)
    begun = time.monotonic()
    tree = sound_tree(folder / "sound")
    baselines = folder / "baselines"
    make_baseline(tree, suite, baselines)
    say(f"the baseline took {time.monotonic() - begun:.0f} s")
    names = list(FAULTS) if options.faults is None else options.faults
    variants = [HERE_AND_NOW]
    if options.other_environment:
        names = [name for name in names if FAULTS[name].kind == "accuracy"]
        variants = [other_instructions(tree, suite, baselines), PERMUTED]
    wrong = []
    for variant in variants if names else ():
        checks = check_all(names, variant, tree, suite, baselines, folder / "faulty", options.at_once)
        missed = print_table(checks, variant)
        tell(checks, variant, missed)
        wrong += missed
    are_fine = True
    if options.repeats and options.other_environment:
        settings = variants[0].settings
        are_fine = repeats_elsewhere(tree, suite, folder / "repeats", settings, options.repeats, options.at_once, say)
    elif options.repeats:
        are_fine = repeats_here(tree, suite, baselines, options.repeats, say)
    return 0 if are_fine and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
