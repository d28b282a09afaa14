"""An MLflow tracking server: asked once before it is used."""

from __future__ import annotations

import re
from http import HTTPStatus

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from requests import Response

from fedbench.util.errors import StoreError

ANSWER_SECONDS = 10
REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def is_server(uri: str) -> bool:
    """Whether a store is a tracking server, which is asked over HTTP."""
    return uri.startswith(("http://", "https://"))


def require_answering_server(uri: str, shown: str) -> None:
    """Ask a tracking server once, with MLflow's credentials, before requests to it are retried for minutes.

    Raises `StoreError` if it does not answer, refuses, fails, is no MLflow server, or runs another major version of
    MLflow.
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
        raise StoreError(f"{place} is not an MLflow server (it answers {answer.status_code}): correct --tracking-uri")


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
    """What to do about the answer 401 or 403."""
    if status == HTTPStatus.FORBIDDEN:
        return f"{place} does not let this user do so (it answers 403): ask for the permission, or {CREDENTIALS}"
    return f"{place} refuses the credentials (it answers 401): {CREDENTIALS}"
