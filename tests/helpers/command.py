"""The command `fedbench` in this process: whole, from its arguments to its exit code, without a process's imports.

What is of the process itself needs one: signals, what is left at its end, what it imports, the encoding of its streams,
and what libraries print on standard error.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedbench.cli import exits
from fedbench.cli.app import main

HIDDEN = ("FEDBENCH_DATA_DIR", "FEDBENCH_MIRROR", "FEDBENCH_DEBUG", "MLFLOW_TRACKING_URI")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


def fedbench_here(*arguments: str, folder: Path, columns: int = 120, answer: str = "") -> Done:
    """Run a command in `folder`, its home in ``folder/home``; what it changes in this process is put back.

    `answer` is what it reads from standard input.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as changes, _as_before(), redirect_stdout(out), redirect_stderr(err):
        changes.setenv("HOME", str(folder / "home"))
        changes.setenv("COLUMNS", str(columns))
        for name in HIDDEN:
            changes.setenv(name, "")  # so that what the command sets is put back, too
            changes.delenv(name)
        changes.chdir(folder)
        changes.setattr(sys, "argv", ["fedbench", *arguments])
        changes.setattr(sys, "stdin", io.StringIO(answer))
        changes.setattr(exits, "_exit_soon", _interrupt)
        with pytest.raises(SystemExit) as ended:
            main()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    assert "Traceback" not in "".join(texts)
    return Done(int(ended.value.code or 0), *texts)


def _interrupt(code: int) -> None:
    raise KeyboardInterrupt(code)  # of the tests; the command would end their process


@contextmanager
def _as_before() -> Iterator[None]:
    """Put back what a command may leave to the end of its process; another store may have its relative address."""
    _forget_relative_stores()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    hook = sys.unraisablehook
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        if threads is not None:
            sys.modules["torch"].set_num_threads(threads)
        _forget_relative_stores()


def _forget_relative_stores() -> None:
    """Let MLflow open ``sqlite:///mlruns/mlflow.db`` again: it caches a store for each address as it is written."""
    for part, registry in (("tracking", "TrackingStoreRegistry"), ("model_registry", "ModelRegistryStoreRegistry")):
        if module := sys.modules.get(f"mlflow.store.{part}.sqlalchemy_store"):
            engines = module.SqlAlchemyStore._engine_map
            for uri in [uri for uri in engines if uri.startswith("sqlite:///") and uri[10:11] != "/"]:
                engines.pop(uri).dispose()
        if module := sys.modules.get(f"mlflow.tracking._{part}{'_service' * (part == 'tracking')}.registry"):
            getattr(module, registry)._get_store_with_resolved_uri.cache_clear()
