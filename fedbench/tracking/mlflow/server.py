"""An MLflow tracking server: asked once before it is used, and waited for by MLflow's own retries while it is away."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from requests import Response
from urllib3.util import Retry

from fedbench.tracking.mlflow.waiting import begin_waiting, end_waiting
from fedbench.util.errors import StoreError

ANSWER_SECONDS = 10
RETRIED = frozenset({408, 429, 500, 502, 503, 504})  # answers that MLflow does not take for one
STATUS = 6  # which of the values in urllib3's line about an answer is its status
REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"

_asked = threading.local()  # the server that this thread asks something of, as it may be shown


def is_server(uri: str) -> bool:
    """Whether a store is asked over HTTP."""
    return uri.startswith(("http://", "https://"))


def require_answering_server(uri: str, shown: str) -> None:
    """Ask a tracking server, briefly and with MLflow's credentials, before MLflow asks it patiently for minutes.

    Raises
    ------
    StoreError
        If it does not answer, refuses, fails, is none, or is of another major version of MLflow.
    """
    place = f"tracking server {shown}"
    version = _ask(uri, place, "/version", "GET")
    found = re.fullmatch(r"(\d+)\.\d+\S*", version.text.strip()) if version.ok else None
    if found and found[1] != mlflow.__version__.partition(".")[0]:
        raise StoreError(
            f"{place} runs MLflow {found[0]}, and this is MLflow {mlflow.__version__}: install mlflow "
            f"{found[1]} here, upgrade the server, or choose another --tracking-uri"
        )
    answer = _ask(uri, place, "/api/2.0/mlflow/experiments/search", "POST", json={"max_results": 1})
    if not answer.ok or not answer.headers.get("Content-Type", "").startswith("application/json"):
        raise StoreError(f"{place} is no MLflow server (it answers {answer.status_code}): correct --tracking-uri")


def _ask(uri: str, place: str, endpoint: str, method: str, **content: object) -> Response:
    options = {"max_retries": 1, "timeout": ANSWER_SECONDS, "raise_on_status": False, **content}
    try:
        credentials = get_default_host_creds(uri.rstrip("/"))  # type: ignore[no-untyped-call]
        answer: Response = http_request(credentials, endpoint, method, **options)  # type: ignore[no-untyped-call]
    except (MlflowException, ValueError) as error:
        if "CERTIFICATE" in str(error):
            raise StoreError(
                f"{place} has a certificate that is not trusted here: name the one that signed it in "
                "MLFLOW_TRACKING_SERVER_CERT_PATH"
            ) from error
        raise StoreError(f"{place} does not answer: start it, or correct --tracking-uri") from error
    if answer.status_code in REFUSALS:
        raise StoreError(explain_refusal(place, answer.status_code))
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise StoreError(f"{place} answers {answer.status_code}: look into its log, and at its database")
    return answer


def explain_refusal(place: str, status: int) -> str:
    """What to do about an answer of 401 or 403."""
    if status == HTTPStatus.FORBIDDEN:
        return f"{place} does not let this user do so (it answers 403): ask for the permission, or {CREDENTIALS}"
    return f"{place} refuses the credentials (it answers 401): {CREDENTIALS}"


def repeats() -> int:
    """How many requests of this thread were repeated so far."""
    return int(getattr(_asked, "repeats", 0))


@contextmanager
def asking(place: str) -> Iterator[None]:
    """Use a server; while it is away, the user is told."""
    before = getattr(_asked, "place", None)
    _asked.place = place
    try:
        yield
    finally:
        _asked.place = before


def _notice_retry(record: logging.LogRecord) -> bool:
    """See that urllib3 is about to ask once more; the first time is at once, and no reason to tell anybody."""
    place = getattr(_asked, "place", None)
    history = next((value.history for value in _values(record) if isinstance(value, Retry)), ())
    if place and history:
        _asked.repeats = repeats() + 1
    if place and len(history) > 1:
        status = history[-1].status
        _answers.setLevel(logging.DEBUG)  # to see when it answers again
        begin_waiting(place, f"answers {status}" if status else "does not answer")
    return False  # such words are for nobody


def _notice_answer(record: logging.LogRecord) -> bool:
    """See that a server has answered."""
    status = (*_values(record), *[None] * (STATUS + 1))[STATUS]
    if getattr(_asked, "place", None) and isinstance(status, int) and status not in RETRIED:
        _answers.setLevel(logging.NOTSET)
        end_waiting()
    return record.levelno > logging.DEBUG and not str(record.msg).startswith("Retrying")


def _values(record: logging.LogRecord) -> tuple[Any, ...]:
    return record.args if isinstance(record.args, tuple) else ()


_retries = logging.getLogger("urllib3.util.retry")
_answers = logging.getLogger("urllib3.connectionpool")
_retries.setLevel(logging.DEBUG)
_retries.addFilter(_notice_retry)
_answers.addFilter(_notice_answer)
