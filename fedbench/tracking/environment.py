"""What computes the numbers: versions, processor, and the git commit of the working directory."""

from __future__ import annotations

import platform
import subprocess
from functools import cache

from fedbench import __version__


@cache
def environment_tags() -> dict[str, str]:
    """The tags of a run that say so."""
    import torch

    tags = {
        "fedbench.version": __version__,
        "fedbench.python": platform.python_version(),
        "fedbench.torch": torch.__version__,
        "fedbench.processor": torch.backends.cpu.get_cpu_capability(),
        "mlflow.source.name": "fedbench",
        "mlflow.source.type": "LOCAL",
    }
    if commit := git_answer("rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(bool(git_answer("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def git_answer(*arguments: str) -> str:
    """What git answers in the working directory; empty where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603, S607 - fixed arguments; git is found on the PATH
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def public_version(version: str) -> str:
    """Drop the local part of a version, which no package index knows: ``2.14.1+cpu`` is ``2.14.1``."""
    return version.partition("+")[0]
