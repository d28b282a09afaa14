"""A child process that is controlled by lines of JSON: commands on its standard input, answers on its output."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Child:
    """A running child; `log` gets what it and its libraries print."""

    process: subprocess.Popen[bytes]
    log: Path
    unread: bytes = b""

    def ask(self, **command: object) -> None:
        """Send a command."""
        assert self.process.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):  # it has died: there will be no answer
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self, seconds: float | None = None) -> dict[str, Any] | None:
        """The next answer; None if the child has ended, and a `TimeoutError` if there is none in so many seconds."""
        assert self.process.stdout is not None  # noqa: S101 - a pipe
        deadline = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self.unread:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError(f"it did not end in {seconds:.0f} s")
            if not (some := os.read(self.process.stdout.fileno(), 1 << 16)):
                return None
            self.unread += some
        line, _, self.unread = self.unread.partition(b"\n")
        return dict(json.loads(line))

    def last_words(self) -> str:
        """The exit code, and the last line that the child printed; waits for its end."""
        code = self.process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["no message"]
        return f"exit code {code}: {lines[-1].strip()[:300]}"

    def end(self) -> None:
        """Kill the child and all that it started."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def child(
    arguments: Sequence[str],
    log: Path,
    path: Sequence[Path] = (),
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Child]:
    """Start Python with these arguments in a session of its own, so that Ctrl-C is ours alone; it ends at the end.

    Parameters
    ----------
    path
        Folders to import from before all others. The working directory is none of them.
    folder
        The child's working directory; ours if None.
    variables
        Changes to the environment, which is left without what would change pytest or record in a store.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MLFLOW_TRACKING_"))}
    search = os.pathsep.join([*map(str, path), *filter(None, [kept.get("PYTHONPATH")])])
    environment = kept | {"PYTHONPATH": search, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | dict(variables or {})
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-P", "-B", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    started = Child(process, log)
    try:
        yield started
    finally:
        started.end()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
