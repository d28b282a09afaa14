"""Run a command and see from outside when its rounds end, how long it takes and how much memory it holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

MARK = "FEDBENCH_PEERS_MARK"  # in the environment of every process of a command
SAMPLE_SECONDS = 0.1
PSS_SECONDS = 2.0  # PSS is dear to read, so between these times it is read only when the resident sum has grown
GROWTH = 1.01
LEFT_OVER_SECONDS = 15.0
PAGE = os.sysconf("SC_PAGE_SIZE")
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


def measure(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Measurement:
    """Run a command in `folder`, which also has its temporary files; raises SystemExit if it fails."""
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
            sys.exit(
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
        self._mark = f"{MARK}={mark}".encode()
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
            resident = sum(map(rss, self.processes))
            if resident > GROWTH * self._largest_resident or time.monotonic() - last > PSS_SECONDS:
                self.peak_bytes = max(self.peak_bytes, sum(map(pss, self.processes)))
                last = time.monotonic()
            self._largest_resident = max(self._largest_resident, resident)

    def _find(self) -> None:
        living = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        self.processes &= living
        self._others &= living
        for pid in sorted(living - self.processes - self._others):
            with suppress(OSError):
                ours = self._mark in Path(f"/proc/{pid}/environ").read_bytes() or parent(pid) in self.processes
                (self.processes if ours else self._others).add(pid)


def end_on_request() -> None:
    """Let a request to end this process be an exit, which ends the command that it measures too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def parent(pid: int) -> int:
    """A process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def rss(pid: int) -> int:
    """A process's resident set size in bytes; 0 if it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def pss(pid: int) -> int:
    """A process's proportional set size in bytes; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def end(processes: set[int]) -> None:
    """Wait for a command's last processes, then end those that stay."""
    deadline = time.monotonic() + LEFT_OVER_SECONDS
    left = set(living(processes))
    while left and time.monotonic() < deadline:
        time.sleep(SAMPLE_SECONDS)
        left = set(living(left))
    kill(left)


def kill(processes: set[int]) -> None:
    """End processes at once."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def living(processes: set[int]) -> Iterator[int]:
    """Those that have not ended."""
    for pid in processes:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                yield pid


def fedbench_command(*arguments: str) -> list[str]:
    """The command line of the fedbench that this Python has."""
    return [sys.executable, "-m", "fedbench", *arguments]


def cpu_model() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def yardstick(python: Path) -> float:
    """GFLOP/s of a 1024x1024 float32 matrix product with PyTorch's default threads, the best of 50."""
    code = (
        "import time, torch; a = torch.rand(1024, 1024); times = []\n"
        "for _ in range(53):\n"
        "    start = time.perf_counter(); torch.mm(a, a); times.append(time.perf_counter() - start)\n"
        "print(2 * 1024**3 / min(times[3:]) / 1e9)"
    )
    return float(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)  # noqa: S603


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """The versions of packages in a Python's environment."""
    code = "import sys; from importlib.metadata import version\nfor name in sys.argv[1:]: print(version(name))"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)  # noqa: S603
    return dict(zip(names, done.stdout.split(), strict=True))
