"""A process that times workloads a few calls at a time, when told to, so that two processes can take turns.

It runs as a script, from a copy outside the package, with the code of one tree on its path. A fedbench there may be
years older than this file, so it imports nothing of fedbench itself. `fedbench.gate.turns` controls it by lines of
JSON:

- ``{"start": file, "tree": folder, "home": folder}``: import fedbench, which must be in `home`, and a file of
  workloads, which finds the tree in `TREE`; ``{"groups": {...}}``, the groups of the workloads by name;
- ``{"begin": name}``: make the workload's task and warm up; ``{"seconds": [...]}`` as below;
- ``{"calls": n}``: call it `n` times; ``{"seconds": [...]}``, the wall time of each call without the time that the
  system says it waited for a core while other processes had them all;
- ``{"finish": true}``: check the last result; ``{}``.

Whatever fails answers ``{"failed": reason}``. The end of the commands ends the process.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_UP_CALLS = 3
WARM_UP_SECONDS = 5.0  # no more calls after that


def main() -> None:
    """Serve the commands on standard input."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what is printed belongs in the log
        worker = _Worker()
        for line in sys.stdin:
            try:
                answer = worker.obey(json.loads(line))
            except Exception as error:  # whatever goes wrong is to be reported
                said = " ".join(str(error).replace(f"{worker.tree}/", "").split())[:300]
                is_ours = type(error).__module__.startswith("fedbench.")  # these say it all
                answer = {"failed": said if is_ours else f"{type(error).__name__}: {said}".removesuffix(": ")}
            answers.write(json.dumps(answer) + "\n")


class _Worker:
    """The workloads, and the task that is timed. Both are read by their attributes: see `fedbench.bench.workloads`."""

    def __init__(self) -> None:
        self.workloads: dict[str, Any] = {}
        self.task: Any = None
        self.result: object = None
        self.tree = ""

    def _start(self, file: str, tree: str, home: str) -> dict[str, Any]:
        import fedbench

        if Path(fedbench.__file__).resolve().parents[1] != Path(home).resolve():
            raise ImportError(f"its fedbench is {fedbench.__file__}, which is another one: unset PYTHONPATH")
        self.tree = tree
        found = runpy.run_path(file, {"TREE": tree})
        found["set_up"]()
        self.workloads = {each.name: each for each in found["WORKLOADS"] if not each.only_in_bench}
        return {"groups": {name: each.group for name, each in self.workloads.items()}}

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a command says; its answer."""
        if "start" in command:
            return self._start(command["start"], command["tree"], command["home"])
        if "begin" in command:
            return self._begin(command["begin"])
        if "calls" in command:
            gc.disable()
            seconds = [self._seconds() for _ in range(command["calls"])]
            gc.enable()
            return {"seconds": seconds}
        if not self.task.is_right(self.result):
            raise ValueError("the result is wrong")
        return {}

    def _begin(self, name: str) -> dict[str, Any]:
        self.task = self.workloads[name].make()
        start, seconds = time.perf_counter(), [self._seconds()]
        while len(seconds) < WARM_UP_CALLS and time.perf_counter() - start < WARM_UP_SECONDS:
            seconds.append(self._seconds())
        return {"seconds": seconds}

    def _seconds(self) -> float:
        arguments = self.task.arguments()
        waited, start = _waited(), time.perf_counter()
        self.result = self.task.call(*arguments)
        seconds = time.perf_counter() - start
        waited = _waited() - waited
        return seconds - waited if waited < seconds else seconds  # else it waited between the readings of two clocks


def _waiting_clock() -> Callable[[], float]:
    """How many seconds this thread has waited for a core while others had them all; always 0 if the system won't say.

    Linux counts them in all common distributions; time asleep is not included.
    """
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        os.pread(file, 64, 0).split()[1]
    except (OSError, IndexError):
        return lambda: 0.0
    return lambda: int(os.pread(file, 64, 0).split()[1]) / 1e9


_waited = _waiting_clock()

if __name__ == "__main__":
    main()
