"""A process that times benchmarks a few calls at a time, when it is told to, so that two processes can take turns.

It is run as a script, from a copy outside the package, with the fedbench of one tree on its path. It imports nothing of
fedbench itself: the fedbench that it times may be years older. Its fixture ``benchmark`` takes the place of
pytest-benchmark's. `fedbench.gate.lockstep` is the other end of its pipes.

It reads commands, a line of JSON each, and answers each with a line:

- at first, by itself: ``{"file", "names", "broken"}``: where its fedbench is, the benchmarks by group, and what could
  not be imported;
- ``{"begin": name}``: set the benchmark up and warm it up; ``{}``;
- ``{"calls": n}``: call it `n` times; ``{"seconds": [...]}``, the wall time of each, less what the system says that it
  waited for a core while another process had it;
- ``{"finish": true}``: let it check its result; ``{}``.

A benchmark that fails answers ``{"failed": reason}`` instead, at any moment, and is over. The end of the commands ends
the process.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

PREFIX = "test_"
WARM_UP_CALLS = 3


def main() -> None:
    """Serve ``argv``: the two ends of the pipes, and the folder of the benchmarks, which has a file ``pytest.ini``."""
    reading, writing, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with open(reading) as commands, open(writing, "w") as answers:
        talk = _Talk(commands, answers)
        try:
            file = _imported(folder)
        except Exception as error:  # whatever an import raises is what is to be reported
            talk.answer(file="", names={}, broken={"fedbench": _reason(error)})
            return
        options = ["-c", str(folder / "pytest.ini"), f"--rootdir={folder}", "-p", "no:cacheprovider"]
        options += ["--continue-on-collection-errors", f"--basetemp={folder.parent / f'scratch-{os.getpid()}'}"]
        sys.exit(pytest.main([*options, str(folder)], plugins=[_Plugin(talk, file)]))


def _imported(folder: Path) -> str:
    """Import fedbench and what the benchmarks share, before pytest, which says less of an error; fedbench's file."""
    import fedbench

    if (conftest := folder / "conftest.py").exists():
        specification = importlib.util.spec_from_file_location("shared_by_benchmarks", conftest)
        assert specification is not None and specification.loader is not None  # noqa: S101, PT018 - it is a Python file
        specification.loader.exec_module(importlib.util.module_from_spec(specification))
    return str(fedbench.__file__)


class _Talk:
    """Commands in, answers out."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self.commands, self.answers = commands, answers

    def command(self) -> dict[str, Any]:
        line = self.commands.readline()
        if not line:
            _end()
        return dict(json.loads(line))

    def answer(self, **answer: object) -> None:
        try:
            self.answers.write(json.dumps(answer) + "\n")
            self.answers.flush()
        except BrokenPipeError:
            _end()


def _end() -> NoReturn:
    """Nobody listens any more: end at once, also amid a benchmark. There is nothing to save."""
    os._exit(0)


class _Plugin:
    """The hooks of the session, and its fixture."""

    def __init__(self, talk: _Talk, file: str) -> None:
        self.talk, self.file = talk, file
        self.broken: dict[str, str] = {}
        self.failed: str | None = None
        self.is_timed = False

    def pytest_configure(self, config: pytest.Config) -> None:
        """See pytest."""
        config.addinivalue_line("markers", "benchmark(group): pytest-benchmark's")

    def pytest_exception_interact(self, node: pytest.Item, call: pytest.CallInfo[object]) -> None:
        """Remember the file that could not be imported, or why the running benchmark failed."""
        assert call.excinfo is not None  # noqa: S101 - pytest promises it
        error = call.excinfo.value
        if isinstance(node, pytest.Item):
            self.failed = self.failed or _reason(error)
        else:  # pytest wraps what a file's import raised
            self.broken[node.name] = _reason(error.__cause__ or error)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the benchmarks that are asked for, instead of all."""
        items = {item.name.removeprefix(PREFIX): item for item in session.items if _is_benchmark(item)}
        names = {name: _group(item) for name, item in items.items()}
        self.talk.answer(file=self.file, names=names, broken=self.broken)
        while True:
            item, self.failed, self.is_timed = items[self.talk.command()["begin"]], None, False
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if not self.is_timed:
                self.failed = self.failed or "it does not call the fixture benchmark"
            self.talk.answer(**({"failed": self.failed} if self.failed else {}))

    def pytest_runtest_makereport(self, call: pytest.CallInfo[object]) -> None:
        """A benchmark that skips itself has not been timed either."""
        if call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception):
            self.failed = self.failed or f"skipped: {call.excinfo.value}"

    @pytest.fixture
    def benchmark(self) -> _Benchmark:
        """What a benchmark takes instead of pytest-benchmark's fixture."""
        return _Benchmark(self)


class _Benchmark:
    """As much of pytest-benchmark's fixture as the benchmarks use. How many rounds they ask for does not matter."""

    def __init__(self, plugin: _Plugin) -> None:
        self.plugin, self.talk = plugin, plugin.talk
        self.extra_info: dict[str, object] = {}

    def __call__(self, target: Callable[..., Any], *args: object, **kwargs: object) -> object:
        return self.pedantic(target, args, kwargs)

    def pedantic(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        **_: object,
    ) -> object:
        """Time `target` whenever the parent says so; what its last call returned."""
        if self.plugin.is_timed:
            raise RuntimeError("the fixture benchmark can be called once in a test")
        keywords = kwargs or {}

        def call() -> tuple[float, object]:
            given, named = (setup() if setup else None) or (args, keywords)
            waited = _waited()
            start = time.perf_counter()
            result = target(*given, **named)
            seconds = time.perf_counter() - start
            waited = _waited() - waited
            if waited < seconds:  # else it waited between the readings of the two clocks
                seconds -= waited
            if teardown:
                teardown(*given, **named)
            return seconds, result

        for _number in range(WARM_UP_CALLS):
            result = call()[1]
        self.plugin.is_timed = True
        self.talk.answer()
        while calls := self.talk.command().get("calls"):
            seconds = []
            gc.disable()
            for _number in range(calls):
                took, result = call()
                seconds.append(took)
            gc.enable()
            self.talk.answer(seconds=seconds)
        return result


def _waiting_clock() -> Callable[[], float]:
    """How many seconds this thread has waited for a core while others had them all; always 0 if the system won't say.

    Time that a call sleeps is not among them, so that wall time less this is what the call would have taken on a core
    of its own. Linux counts it where it was built to, as all the usual distributions are.
    """
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        os.pread(file, 64, 0).split()[1]
    except (OSError, IndexError):
        return lambda: 0.0
    return lambda: int(os.pread(file, 64, 0).split()[1]) / 1e9


_waited = _waiting_clock()


def _is_benchmark(item: pytest.Item) -> bool:
    return "benchmark" in getattr(item, "fixturenames", ())


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("benchmark")
    return str(marker.kwargs.get("group", "")) if marker else ""


def _reason(error: BaseException) -> str:
    """Of what kind the error is, and the beginning of what it says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")


if __name__ == "__main__":
    main()
