"""What computes the numbers: versions, processor, and the git commit of the working directory."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

from fedbench import __version__

SOURCE_TAGS = {"mlflow.source.name": "fedbench", "mlflow.source.type": "LOCAL"}


@cache
def environment_tags() -> dict[str, str]:
    """The tags of a run that say so."""
    tags = version_tags() | SOURCE_TAGS
    if commit := git_answer("rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(bool(git_answer("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def version_tags() -> dict[str, str]:
    """Those of the versions and the processor."""
    import torch

    return {
        "fedbench.version": __version__,
        "fedbench.python": platform.python_version(),
        "fedbench.torch": torch.__version__,
        "fedbench.processor": torch.backends.cpu.get_cpu_capability(),
    }


def git_answer(*arguments: str, folder: Path | None = None) -> str:
    """What git answers in `folder`, or the working directory; empty where there is no git or no repository."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", *arguments],  # noqa: S607 - git is found on the PATH
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def public_version(version: str) -> str:
    """Drop the local part of a version, which no package index knows: ``2.14.1+cpu`` is ``2.14.1``."""
    return version.partition("+")[0]
