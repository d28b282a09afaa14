"""What can be wrong with a store, each explained in one line that says what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import mlflow
from alembic.util.exc import CommandError
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from fedbench.tracking.mlflow.database import local_folder, mlflow_uri, without_password
from fedbench.tracking.mlflow.server import explain_refusal
from fedbench.util.advice import command
from fedbench.util.errors import StoreError, causes

RESUMES = "the same command resumes"
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
READ_ONLY = ("read-only transaction", "readonly database", "permission denied for")


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Use a store; what goes wrong becomes a `StoreError` of one line, unless an interruption is the cause."""
    try:
        yield
    except StoreError:
        raise
    except (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, OSError) as error:
        if any(isinstance(each, KeyboardInterrupt) for each in causes(error)):
            raise KeyboardInterrupt from error  # a transaction that was broken off could not be rolled back
        raise StoreError(elsewhere(uri, error) or _explain(without_password(uri), error)) from error


def elsewhere(uri: str, error: Exception) -> str | None:
    """What to do about an operating system's error that is about another path than the store's."""
    folder = local_folder(uri)
    if not isinstance(error, OSError):
        return None
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    temporary = Path(tempfile.gettempdir())
    if path is None and error.errno == errno.ENOSPC:  # a write knows no path: the fuller disk of the two
        free = shutil.disk_usage(temporary).free
        path = temporary if folder is None or free < shutil.disk_usage(folder).free else None
    if path is None or (folder and path.absolute().is_relative_to(folder)):
        return None
    advice = "make room there, or set TMPDIR to another folder" if path.is_relative_to(temporary) else "correct that"
    return f"{path} cannot be used ({error.strerror or error}): {advice}, then {RESUMES}"


def _explain(uri: str, error: Exception) -> str:
    said = str(getattr(error, "strerror", None) or error)
    text = re.sub(r"://[^/@\s]*@", "://***@", " ".join(said.split()).partition(" [SQL:")[0])
    if refused := re.search(r"failed with error code (401|403) ", text):
        return explain_refusal(f"tracking server {uri}", int(refused[1]))
    if "PERMISSION_DENIED" in text:
        return explain_refusal(f"tracking server {uri}", HTTPStatus.FORBIDDEN)
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        upgrade = command("mlflow", "db", "upgrade", mlflow_uri(uri))
        return (
            f"tracking store {uri} was made by another version of MLflow than this one ({mlflow.__version__}): upgrade "
            f"mlflow if it is newer, run `{upgrade}` if it is older, or choose another --tracking-uri"
        )
    if "disk is full" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return f"tracking store {uri}: the disk is full: make room, then {RESUMES}"
    if "database is locked" in text:
        return f"tracking store {uri} is locked by another program: end it, then {RESUMES}"
    if any(words in text for words in READ_ONLY) or getattr(error, "errno", None) in FORBIDDEN:
        return (
            f"tracking store {uri} can only be read ({text[:200]}): let its user write, or choose another with "
            "--tracking-uri"
        )
    if "password authentication failed" in text:
        return f"tracking store {uri} refuses the user or the password: correct them in --tracking-uri"
    return f"tracking store {uri} failed ({text[:300]}): check that it can be written, or choose another --tracking-uri"
