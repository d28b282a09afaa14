"""What can be wrong with a store, each explained in one line that says what to do."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import mlflow
from alembic.util.exc import CommandError
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from fedbench.tracking.mlflow.database import without_password
from fedbench.tracking.mlflow.server import explain_refusal
from fedbench.util.errors import StoreError, causes

RESUMES = "the same command resumes"
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
        raise StoreError(_explain(without_password(uri), error)) from error


def _explain(uri: str, error: Exception) -> str:
    text = re.sub(r"://[^/@\s]*@", "://***@", " ".join(str(error).split()).partition(" [SQL:")[0])
    if refused := re.search(r"failed with error code (401|403) ", text):
        return explain_refusal(f"tracking server {uri}", int(refused[1]))
    if "PERMISSION_DENIED" in text:
        return explain_refusal(f"tracking server {uri}", HTTPStatus.FORBIDDEN)
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return (
            f"tracking store {uri} was made by another version of MLflow than this one ({mlflow.__version__}): upgrade "
            f"mlflow if it is newer, run `mlflow db upgrade {uri}` if it is older, or choose another --tracking-uri"
        )
    if "disk is full" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return f"tracking store {uri}: the disk is full: make room, then {RESUMES}"
    if "database is locked" in text:
        return f"tracking store {uri} is locked by another program: end it, then {RESUMES}"
    if any(words in text for words in READ_ONLY):
        return (
            f"tracking store {uri} can only be read ({text[:200]}): let its user write, or choose another with "
            "--tracking-uri"
        )
    if "password authentication failed" in text:
        return f"tracking store {uri} refuses the user or the password: correct them in --tracking-uri"
    return f"tracking store {uri} failed ({text[:300]}): check that it can be written, or choose another --tracking-uri"
