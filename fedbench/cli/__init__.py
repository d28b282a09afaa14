"""The command line."""

from fedbench.cli.app import main

__all__ = ["main"]
