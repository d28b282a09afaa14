"""How a command ends: with an exit code and, if it is not done, one line on standard error."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from typer.exceptions import TyperException

from fedbench.util.errors import FedbenchError, InterruptedSuiteError, one_line

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def run_to_exit(command: Callable[[], object]) -> NoReturn:
    """Run a command and exit; every error ends in one line on standard error and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being asked to end is being interrupted
    sys.unraisablehook = _interrupt_again
    _prepare_streams()
    try:
        code = command()
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        say("interrupted")
    except InterruptedSuiteError as error:
        code = EXIT_INTERRUPTED
        say(f"interrupted: {error}")
    except FedbenchError as error:
        code = EXIT_BAD_INPUT
        say(f"error: {error}")
    except TyperException as error:
        code = EXIT_BAD_INPUT
        if message := error.format_message():  # without a command there is none: the help was shown
            say(f"error: {message} (see: {_command_of(error)} --help)")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; flushing must not fail
        code = EXIT_FAILED
    except OSError as error:
        code = EXIT_FAILED
        say(f"error: {one_line(error)}")
    except Exception as error:
        if os.environ.get("FEDBENCH_DEBUG"):
            raise
        hint = "please report it (FEDBENCH_DEBUG=1 shows where it came from)"
        code = EXIT_FAILED
        say(f"error: unexpected {one_line(error)}: {hint}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # we are ending
    if code == EXIT_INTERRUPTED:
        gc.collect()  # whatever the interruption left open is closed now
        _exit_at_once(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Repeat an interruption that Python dropped: it came in a callback or finalizer, which cannot raise."""
    if unraisable.exc_type is KeyboardInterrupt:
        main = threading.main_thread().ident
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()  # when that place has been left
    else:
        sys.__unraisablehook__(unraisable)


def _exit_at_once(code: int) -> NoReturn:
    """Exit with `code` for certain; Python ends by the signal itself if that broke off an import in C code."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the reader has gone
            stream.flush()
    os._exit(code)


def _prepare_streams() -> None:
    """Print what a terminal's encoding lacks as "?", and nothing where a stream was closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - it lives as long as we do
        getattr(sys, name).reconfigure(errors="replace")


def say(message: str) -> None:
    """Write one line on standard error, as from fedbench."""
    sys.stderr.write(f"fedbench: {message}\n")


def _command_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context else "fedbench"
