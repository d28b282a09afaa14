"""Commands that messages advise, as a person types them into the shell that the present command was typed into."""

from __future__ import annotations

import os
import shlex


def command(*words: object, **options: object) -> str:
    """A command with its options; those that are None are left out."""
    chosen = [(f"--{name.replace('_', '-')}", value) for name, value in options.items() if value is not None]
    return shlex.join(str(word) for word in (*words, *(part for pair in chosen for part in pair)))


def data_command(action: str, name: str) -> str:
    """``fedbench data ACTION NAME``, on the data folder in use."""
    return command("fedbench", "data", action, name, data_dir=os.environ.get("FEDBENCH_DATA_DIR") or None)
