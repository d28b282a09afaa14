"""What can go wrong through no fault of the code. The command line shows each as one line and exits with code 2."""


class FedbenchError(Exception):
    """The base of every error that a user can mend. Its text is one line that says what to do."""


class SuiteError(FedbenchError):
    """A suite file, or an option that changes one, is wrong."""


class DataError(FedbenchError):
    """A dataset is missing, damaged, or cannot be fetched."""


class PartitionError(FedbenchError):
    """The training examples cannot be dealt to the clients as asked."""


class StoreError(FedbenchError):
    """The tracking store cannot be opened, read or written."""


class ClusterError(FedbenchError):
    """A Ray cluster cannot be reached, or cannot compute runs."""


class CheckpointError(FedbenchError):
    """A checkpoint cannot be used; the run starts anew."""


class BenchmarkError(FedbenchError):
    """The timing benchmarks cannot be run, or none was selected."""


class BaselineError(FedbenchError):
    """A baseline is missing, damaged, or of something else than what is checked."""


class InterruptedSuiteError(FedbenchError):
    """A suite, or the timing benchmarks, was interrupted; the text says how to go on."""


def one_line(error: Exception) -> str:
    """An error as one line: ours is one as it stands; of one from elsewhere the type and the beginning of its text."""
    if isinstance(error, FedbenchError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
