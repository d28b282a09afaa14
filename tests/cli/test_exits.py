"""How a command ends."""

from __future__ import annotations

import subprocess
import sys
import time

SECONDS = 20.0  # that the command below takes if nothing interrupts it

INTERRUPTED_WHERE_NOTHING_CAN_BE_RAISED = f"""
import signal, time, weakref
from fedbench.cli.exits import run_to_exit

class Thing: ...

def command():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing  # Python drops what the callback raises
    time.sleep({SECONDS})

run_to_exit(command)
"""


def test_an_interruption_that_python_drops_is_not_lost() -> None:
    begun = time.monotonic()
    command = [sys.executable, "-c", INTERRUPTED_WHERE_NOTHING_CAN_BE_RAISED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (130, "", "fedbench: interrupted\n") == (done.returncode, done.stdout, done.stderr)
    assert time.monotonic() - begun < SECONDS
