"""Errors that are no fault of the code. The command line shows each as one line and exits with code 2."""

from __future__ import annotations

from collections.abc import Iterator

from fedbench.util import text


class FedbenchError(Exception):
    """The base of every error that a user can fix. Its text is one line that says what to do."""

    def __str__(self) -> str:
        return text.printable(super().__str__())


class SuiteError(FedbenchError):
    """A suite file, or an option that changes one, is wrong."""


class DataError(FedbenchError):
    """A dataset is missing, damaged, or cannot be downloaded."""


class PartitionError(FedbenchError):
    """The training examples cannot be partitioned as asked."""


class RunError(FedbenchError, ValueError):
    """A part of a run does what it must not, or a run cannot be computed as asked."""


class StoreError(FedbenchError):
    """The tracking store cannot be opened, read or written."""


class ClusterError(FedbenchError):
    """A Ray cluster cannot be reached, or cannot compute runs."""


class CheckpointError(FedbenchError):
    """A checkpoint cannot be used; the run starts over."""


class BenchmarkError(FedbenchError):
    """The timing benchmarks cannot be run, or none was selected."""


class BaselineError(FedbenchError):
    """A baseline is missing, damaged, or belongs to something else."""


class InterruptedSuiteError(FedbenchError):
    """A command was interrupted; the text says how to resume it."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, the error that caused it or was handled when it was raised, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException) -> str:
    """An error on one line: our own as they are, others with their type and the beginning of their text."""
    if isinstance(error, FedbenchError):
        return str(error)
    return f"{type(error).__name__}: {text.one_line(error)[:300]}"
