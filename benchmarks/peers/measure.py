"""Run a command and see from outside when its rounds end, how long it takes and how much memory it holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil

MARK = "FEDBENCH_PEERS_MARK"  # in the environment of every process of a command
SAMPLE_SECONDS = 0.1
PSS_SECONDS = 2.0  # PSS is dear to read, so between these times it is read only when the resident sum has grown
GROWTH = 1.01
LEFT_OVER_SECONDS = 15.0
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GLOO_SOCKET_IFNAME": "lo",  # torch.distributed stays on this machine
}


@dataclass(frozen=True)
class Round:
    """A round's end, in seconds after the command's start, and the averaged model's accuracy in [0, 1]."""

    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Measurement:
    """What was seen of a command.

    Attributes
    ----------
    started
        Seconds since the epoch.
    seconds
        Until the command had ended.
    peak_bytes
        The largest sum of all its processes' PSS, in which what processes share counts once.
    rounds
        From its lines ``ROUND number accuracy``.
    output
        What it wrote on standard output.
    """

    started: float
    seconds: float
    peak_bytes: int
    rounds: tuple[Round, ...]
    output: str


class ContenderError(SystemExit):
    """A contender failed; where nobody minds, its text is the program's last."""


def measure(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Measurement:
    """Run a command in `folder`, which also has its temporary files; raises `ContenderError` if it fails."""
    mark = uuid.uuid4().hex
    marked = {
        **os.environ,
        **QUIET,
        "TMPDIR": str(folder),
        "RAY_TMPDIR": str(folder),
        **(environment or {}),
        MARK: mark,
    }
    rounds: list[Round] = []
    output: list[str] = []
    with tempfile.TemporaryFile("w+") as errors:
        started, start = time.time(), time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - the contenders
            command, cwd=folder, env=marked, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        sampler = Sampler(process.pid, mark)

        def listen() -> None:
            for line in process.stdout or ():
                output.append(line)
                if line.startswith("ROUND "):
                    rounds.append(Round(time.perf_counter() - start, float(line.split()[2])))

        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            code = process.wait()
            seconds = time.perf_counter() - start
        except BaseException:
            sampler.stop()
            kill(sampler.processes)
            raise
        sampler.stop()
        end(sampler.processes)
        listener.join()
        errors.seek(0)
        if code != 0:
            raise ContenderError(
                f"{' '.join(command)} ended with exit code {code}:\n{''.join(output)[-2_000:]}{errors.read()[-4_000:]}"
            )
    return Measurement(started, seconds, sampler.peak_bytes, tuple(rounds), "".join(output))


class Sampler:
    """Watches the processes of a command from a thread.

    A process belongs to the command if it has the mark in its environment or its parent belongs to it. Once known it
    stays known: Ray's daemons leave their parent, and its workers write their title over their environment.
    """

    def __init__(self, pid: int, mark: str) -> None:
        self.processes = {pid}
        self.peak_bytes = 0
        self._largest_resident = 0.0
        self._others: set[int] = set()
        self._mark = mark
        self._stopped = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples; leaves the processes that still live in `processes`."""
        self._stopped.set()
        self._thread.join()
        self._find()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(SAMPLE_SECONDS):
            self._find()
            resident = sum(of_each(self.processes, lambda process: process.memory_info().rss))
            if resident > GROWTH * self._largest_resident or time.monotonic() - last > PSS_SECONDS:
                shared_once = sum(of_each(self.processes, lambda process: process.memory_full_info().pss))
                self.peak_bytes = max(self.peak_bytes, shared_once)
                last = time.monotonic()
            self._largest_resident = max(self._largest_resident, resident)

    def _find(self) -> None:
        living = set(psutil.pids())
        self.processes &= living
        self._others &= living
        for pid in sorted(living - self.processes - self._others):
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                ours = process.environ().get(MARK) == self._mark or process.ppid() in self.processes
                (self.processes if ours else self._others).add(pid)


def end_on_request() -> None:
    """Let a request to end this process be an exit, which ends the command that it measures too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def of_each(pids: set[int], figure: Callable[[psutil.Process], int]) -> Iterator[int]:
    """A figure of each process that has not ended."""
    for pid in pids:
        with suppress(psutil.Error):
            yield figure(psutil.Process(pid))


def end(pids: set[int]) -> None:
    """Wait for a command's last processes, then end those that stay."""
    kill({process.pid for process in psutil.wait_procs(known(pids), timeout=LEFT_OVER_SECONDS)[1]})


def kill(pids: set[int]) -> None:
    """End processes at once."""
    for process in known(pids):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def known(pids: set[int]) -> list[psutil.Process]:
    """Those that have not ended."""
    processes = []
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def fedbench_command(*arguments: str) -> list[str]:
    """The command line of the fedbench that this Python has."""
    return [sys.executable, "-m", "fedbench", *arguments]


def cpu_model() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """The versions of packages in a Python's environment."""
    code = "import sys; from importlib.metadata import version\nfor name in sys.argv[1:]: print(version(name))"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)  # noqa: S603
    return dict(zip(names, done.stdout.split(), strict=True))
