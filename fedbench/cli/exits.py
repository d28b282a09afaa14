"""How a command ends: with an exit code and, unless it succeeded, one line on standard error."""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from typer.exceptions import TyperException

from fedbench.util.errors import FedbenchError, InterruptedSuiteError, one_line
from fedbench.util.interruptions import REQUESTS
from fedbench.util.text import printable

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
OUTPUT = "standard output"
SECONDS_TO_EXIT = 1.0  # after an interruption
HINT = "please report it (FEDBENCH_DEBUG=1 shows the traceback)"

_certain: list[int] = []  # the exit code of an interrupted command


def run_to_exit(command: Callable[[], object]) -> NoReturn:
    """Run a command and exit; every error ends in one line on standard error and an exit code."""
    for number in REQUESTS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = _interrupt_again
    _prepare_streams()
    try:
        code = command()
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        code = _failed(EXIT_INTERRUPTED, "interrupted")
    except InterruptedSuiteError as error:
        code = _failed(EXIT_INTERRUPTED, f"interrupted: {error}")
    except FedbenchError as error:
        code = _failed(EXIT_BAD_INPUT, f"error: {error}")
    except TyperException as error:
        code = EXIT_BAD_INPUT
        message, context = error.format_message(), getattr(error, "ctx", None)
        if context and message == context.get_help():  # there was no command
            sys.stderr.write(f"{message}\n")
        else:
            say(f"error: {message} (see: {context.command_path if context else 'fedbench'} --help)")
    except BrokenPipeError:
        _drop_output()  # the reader has gone
        code = EXIT_FAILED
    except OSError as error:
        if error.filename == OUTPUT:
            _drop_output()
            code = _failed(EXIT_FAILED, f"error: {OUTPUT} cannot be written ({error.strerror}): send it elsewhere")
        elif error.filename:  # a path that cannot be, such as one whose name is too long
            code = _failed(EXIT_BAD_INPUT, f"error: {error.filename}: {error.strerror}")
        else:
            code = _failed(EXIT_FAILED, f"error: {one_line(error)}")
    except Exception as error:
        if os.environ.get("FEDBENCH_DEBUG"):
            raise
        if not _has_home():  # of which libraries ask at any time
            code = _failed(EXIT_BAD_INPUT, "error: the home folder is not known: set HOME")
        else:
            code = _failed(EXIT_FAILED, f"error: unexpected {one_line(error)}: {HINT}")
    for number in REQUESTS:
        signal.signal(number, signal.SIG_IGN)  # the exit code is decided
    if code == EXIT_INTERRUPTED:
        gc.collect()  # close now what the interruption left open
        _exit_soon(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _has_home() -> bool:
    try:
        return bool(Path.home())
    except RuntimeError:
        return False


def _drop_output() -> None:
    """Send what is left of standard output nowhere, so that it can be flushed at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Output(io.FileIO):
    """Standard output, whose errors name it as those of other files name their paths."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = OUTPUT
            raise


def _failed(code: int, message: str) -> int:
    say(message)
    return code


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Repeat an interruption that Python dropped: it came in a callback or finalizer, which cannot raise.

    While modules are imported, callbacks of weak references run all the time.
    """
    if unraisable.exc_type is KeyboardInterrupt:
        main = threading.main_thread().ident
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()  # once that place has been left
    else:
        sys.__unraisablehook__(unraisable)


def _exit_soon(code: int) -> NoReturn:
    """Exit with `code` for certain, once temporary files are removed; threads are not waited for much longer.

    Python itself would end by the signal if that interrupted an import in C code.
    """
    _certain.append(code)
    last = threading.Timer(SECONDS_TO_EXIT, _end_by_code)
    last.daemon = True
    last.start()
    sys.exit(code)


@atexit.register  # before libraries do, so that it is called after what they registered
def _end_by_code() -> None:
    """End the process at once if its exit code is certain, else quickly."""
    gc.freeze()  # or Python looks for garbage in all that was imported, which takes a second
    if _certain:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # the reader has gone
                stream.flush()
        os._exit(_certain[0])


def _prepare_streams() -> None:
    """Print what a terminal's encoding lacks as "?", and each warning on one line."""
    logging.getLogger("fedbench").addFilter(_make_printable)
    if sys.stdout is sys.__stdout__:  # if both are None, it is closed: no other file may get its number
        number = sys.stdout.fileno() if sys.stdout else os.open(os.devnull, os.O_RDONLY)
        by_lines = sys.stdout is None or sys.stdout.line_buffering or sys.stdout.write_through
        encoding = sys.stdout.encoding if sys.stdout else None
        buffer = io.BufferedWriter(_Output(number, "w", closefd=False))
        sys.stdout = io.TextIOWrapper(buffer, encoding, line_buffering=by_lines)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - it lives as long as the process
    for name in ("stdout", "stderr"):
        getattr(sys, name).reconfigure(errors="replace")


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def say(message: str) -> None:
    """Write one line on standard error, prefixed with ``fedbench:``."""
    sys.stderr.write(f"fedbench: {printable(message)}\n")
