"""Check a copy of the tree with a planted slowdown of 10 % against itself, again and again, beside a busy core.

Each time, the tree is copied into a repository of its own, the fault is planted in the copy's working tree, and the
copy's own `check_against("HEAD")` judges it. With the fault `none` every `worse` is a false alarm.

    python tests/endurance/speed_gate.py --repeats 20 --fault slower-step --load

Exit code 1 if fewer than 19 in 20 were caught, or more than 1 in 20 were false alarms, or one took 5 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CLOCK = "__import__('time').thread_time()"  # not of the wall: 10 % of what the code takes, not of waiting for a core
PLANTED = 1.083  # what measures as 1.10 in the end, the planting itself taken along
STEP = "            model.gradients.zero_()\n"
STEP_END = "            model.descend(learning_rate)  # w ← w − η∇ℓ(w; b)\n"
BUSY = f"            while {CLOCK} < began + {PLANTED} * (took - began):\n                pass\n"
SLEEP = "            __import__('time').sleep(0.07 * (took - began))\n"  # a sleep lasts some 60 µs longer
TIMED_STEP = (STEP, f"            began = {CLOCK}\n{STEP}")
ADD = "            total.add_(state.vector, alpha=shares[index])\n"
EVALUATED = '    loss = F.cross_entropy(output, labels, reduction="sum").item()\n'
# Of each fault: the file, and what is replaced by what in it.
FAULTS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "none": ("core/client.py", []),
    "slower-step": (
        "core/client.py",
        [TIMED_STEP, (STEP_END, f"{STEP_END}            took = {CLOCK}\n{BUSY}")],
    ),
    "sleep-in-step": (
        "core/client.py",
        [TIMED_STEP, (STEP_END, f"{STEP_END}            took = {CLOCK}\n{SLEEP}")],
    ),
    "slower-evaluation": (
        "core/evaluation.py",
        [
            ("    inputs, labels = batch\n", f"    inputs, labels = batch\n    began = {CLOCK}\n"),
            (
                EVALUATED,
                f"{EVALUATED}    took = {CLOCK}\n"
                f"    while {CLOCK} < began + {PLANTED} * (took - began):\n        pass\n",
            ),
        ],
    ),
    "double-evaluation": (
        "core/evaluation.py",
        [(EVALUATED, f"    output = model(in_fast_layout(inputs))\n{EVALUATED}")],
    ),
    "slower-averaging": (
        "core/averaging.py",
        [
            (
                ADD,
                f"            began = {CLOCK}\n{ADD}            took = {CLOCK}\n"
                f"            while {CLOCK} < began + 1.15 * (took - began):\n                pass\n",
            )
        ],
    ),
    "copy-in-averaging": ("core/averaging.py", [(ADD, ADD.replace("state.vector", "state.vector.clone()"))]),
    "zero-grad-twice": ("core/client.py", [(STEP, STEP + STEP)]),
}
CHECK = """
import json, sys
from fedbench.gate.speed import check_against
found = check_against("HEAD", float(sys.argv[1]), sys.argv[2] or None)
rows = [(each.name, each.judgement.value, each.ratio, each.interval) for each in found.benchmarks]
print(json.dumps({"seconds": found.seconds, "rows": rows}))
"""


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607 - on the PATH


@contextmanager
def copied(fault: str) -> Iterator[Path]:
    """A repository of the tree as it is now, with the fault in its working tree."""
    with tempfile.TemporaryDirectory(prefix="speed-gate-") as temporary:
        folder = Path(temporary)
        for part in ("fedbench", "tests/benchmarks"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "before")
        file, replacements = FAULTS[fault]
        path = folder / "fedbench" / file
        text = path.read_text()
        for old, new in replacements:
            if text.count(old) != 1:
                raise SystemExit(f"{fault}: {old.strip()!r} is in {file} {text.count(old)} times, not once")
            text = text.replace(old, new)
        path.write_text(text)
        yield folder


@contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Another process that computes on one core, wherever the system puts it."""
    script = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10**6))\n"
    process = subprocess.Popen([sys.executable, "-c", script]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def check(fault: str, seconds: float, select: str) -> dict[str, Any]:
    with copied(fault) as folder:
        done = subprocess.run(
            [sys.executable, "-P", "-c", CHECK, str(seconds), select],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--load", action="store_true", help="keep one core busy meanwhile")
    parser.add_argument("--seconds", type=float, default=240.0, help="of each check at most")
    parser.add_argument("--select", default="", help="only the benchmarks whose name or group has this text in it")
    options = parser.parse_args()
    worse, times = 0, []
    with busy_core(options.load):
        for number in range(1, options.repeats + 1):
            found = check(options.fault, options.seconds, options.select)
            is_worse = any(judgement == "worse" for _, judgement, _, _ in found["rows"])
            worse += is_worse
            times.append(found["seconds"])
            rows = (
                f"{name} {judgement} {ratio:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
                for name, judgement, ratio, interval in found["rows"]
                if interval
            )
            verdict = "worse" if is_worse else "passed"
            print(f"{number}: {verdict} after {found['seconds']:.0f} s: {'; '.join(rows)}", flush=True)
    times.sort()
    print(f"{options.fault}{' beside a busy core' if options.load else ''}: ", end="")
    print(f"{'false alarms' if options.fault == 'none' else 'caught'}: {worse} of {options.repeats}; ", end="")
    print(f"{times[0]:.0f} to {times[-1]:.0f} s, median {times[len(times) // 2]:.0f} s")
    allowed = worse <= options.repeats / 20 if options.fault == "none" else worse >= 0.95 * options.repeats
    return int(not allowed or times[-1] >= 300)


if __name__ == "__main__":
    raise SystemExit(main())
