"""MLflow's client, for a store that may be away for a while: requests are retried, and none takes effect twice.

Whatever a request fails with is a `StoreError` of one line.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import requests
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from sqlalchemy.exc import DBAPIError, OperationalError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_chain, wait_none, wait_random

from fedbench.tracking.mlflow.database import mlflow_uri, without_password
from fedbench.tracking.mlflow.errors import store_errors
from fedbench.tracking.mlflow.server import is_server
from fedbench.util.errors import StoreError, causes
from fedbench.util.interruptions import uninterrupted

Made = TypeVar("Made")

AWAY_SECONDS = 600.0  # after which a store that is away is given up
PAUSE_SECONDS = (3.0, 7.0)  # between two attempts
LAST_TIMEOUT = "5"  # seconds that a server has to answer once the command was interrupted
REQUEST = "fedbench.request"  # the tag by which a run is found whose creation was not answered
GONE = "RESOURCE_DOES_NOT_EXIST"
MAX_BATCH = 900  # metrics that are sent at once: MLflow takes 1,000, with the parameters and tags that come along
CONNECTION_LOST = ("08", "57P")  # SQL states: connection exceptions, and a server that shuts down or starts


def is_away(error: BaseException) -> bool:
    """Whether an error says that a server or database cannot be reached, or cannot answer at the moment."""
    return any(_is_absence(each) for each in causes(error))


def _is_absence(error: BaseException) -> bool:
    if isinstance(error, requests.exceptions.SSLError):
        return False
    if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.RetryError):
        return True  # MLflow raises the last of these for answers such as 503
    if not isinstance(error, DBAPIError) or type(error.orig).__module__.startswith("sqlite"):
        return False
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)  # None without a connection
    lost = isinstance(error, OperationalError) and (state is None or state.startswith(CONNECTION_LOST))
    return lost or error.connection_invalidated


class StoreClient(MlflowClient):
    """A client of the store at `uri` that waits for it while it is away, up to `AWAY_SECONDS`, and says so.

    An interruption ends the waiting at once. After it, and once the store was given up, each request has one attempt or
    none: the command is ending.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(mlflow_uri(uri))
        self.uri = uri
        self.moved: dict[str, str] = {}  # see `fedbench.tracking.mlflow.moved.follow_move`
        self._place = f"{'tracking server' if is_server(uri) else 'tracking store'} {without_password(uri)}"
        self._is_remote = not uri.startswith("sqlite:")
        self._away_since: float | None = None
        self._is_hurried = False
        self._is_given_up = False

    def hurry(self) -> None:
        """Make one attempt from now on, and a short one."""
        self._is_hurried = True
        if self._is_remote:
            os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = LAST_TIMEOUT

    def patiently(self, request: Callable[..., Made], *arguments: Any, **options: Any) -> Made:
        """Make a request of MLflow, again while the store is away."""
        with store_errors(self.uri):
            return self._retried(request, *arguments, **options)

    def _retried(self, request: Callable[..., Made], *arguments: Any, **options: Any) -> Made:
        """As `patiently`, but errors other than that the store was away for too long are MLflow's own."""
        if self._is_given_up:
            raise StoreError(f"{self._place} did not answer: start it, then the same command resumes")
        low, high = PAUSE_SECONDS
        attempts = Retrying(
            retry=retry_if_exception(is_away),
            wait=wait_chain(wait_none(), wait_random(low, high)),  # an idle connection may just have been closed
            stop=stop_after_attempt(1) if self._is_hurried else stop_after_delay(AWAY_SECONDS),
            before_sleep=self._say_away,
            sleep=time.sleep,
            reraise=True,
        )
        try:
            with nullcontext() if self._is_remote else uninterrupted():  # SQLite would be left locked
                answer = attempts(request, *arguments, **options)
        except KeyboardInterrupt:
            self.hurry()
            self._is_given_up = self._away_since is not None
            raise
        except Exception as error:
            if not is_away(error):
                raise
            self._is_given_up = True
            seconds = time.monotonic() - (self._away_since or time.monotonic())
            raise StoreError(
                f"{self._place} has not answered for {seconds:.0f} s: start it, then the same command resumes"
            ) from error
        self._say_back()
        return answer

    def _say_away(self, state: RetryCallState) -> None:
        if state.attempt_number > 1 and self._away_since is None:
            self._away_since = time.monotonic()
            _say(f"{self._place} does not answer: waiting for it; Ctrl-C ends, and the same command resumes later")

    def _say_back(self) -> None:
        if self._away_since is not None:
            _say(f"{self._place} answers again, after {time.monotonic() - self._away_since:.0f} s")
            self._away_since = None

    # What makes or removes something, and would fail or make a twin if the answer to the first request was lost

    def _make_once(
        self,
        make: Callable[[], Made],
        find: Callable[[], Sequence[Made]],
        discard: Callable[[Made], object],
        name_of: Callable[[Made], object],
    ) -> Made:
        """Make a thing unless an earlier attempt has made it.

        Twins are discarded: of an attempt that a server took up after the next one had looked, or of MLflow's retries.
        """
        attempts = 0

        def make_or_find() -> Made:
            nonlocal attempts
            attempts += 1
            found = find() if attempts > 1 else ()
            return found[0] if found else make()

        made = self.patiently(make_or_find)
        if self._is_remote and (attempts > 1 or os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0") != "0"):
            for each in self.patiently(find):
                if name_of(each) != name_of(made):
                    self.patiently(discard, each)
        return made

    def create_run(  # noqa: D102
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Run:
        create = super().create_run
        if not self._is_remote:
            with store_errors(self.uri):
                return create(experiment_id, start_time, tags, run_name)
        tags = {REQUEST: secrets.token_hex(8), **(tags or {})}
        return self._make_once(
            lambda: create(experiment_id, start_time, tags, run_name),
            lambda: MlflowClient.search_runs(self, [experiment_id], f"tags.`{REQUEST}` = '{tags[REQUEST]}'"),
            lambda run: MlflowClient.delete_run(self, run.info.run_id),
            lambda run: run.info.run_id,
        )

    def create_logged_model(  # noqa: D102
        self, experiment_id: str, name: str | None = None, source_run_id: str | None = None, *rest: Any, **options: Any
    ) -> LoggedModel:
        create = super().create_logged_model

        def find() -> list[LoggedModel]:
            found = MlflowClient.search_logged_models(self, [experiment_id], f"source_run_id = '{source_run_id}'")
            return [model for model in found if model.status == LoggedModelStatus.PENDING]

        return self._make_once(
            lambda: create(experiment_id, name, source_run_id, *rest, **options),
            find,
            lambda model: MlflowClient.delete_logged_model(self, model.model_id),
            lambda model: model.model_id,
        )

    def create_model_version(  # noqa: D102
        self, name: str, source: str, run_id: str | None = None, *rest: Any, **options: Any
    ) -> ModelVersion:
        create = super().create_model_version

        def find() -> list[ModelVersion]:
            return list(MlflowClient.search_model_versions(self, f"name = '{name}' and run_id = '{run_id}'"))

        return self._make_once(
            lambda: create(name, source, run_id, *rest, **options),
            find,
            lambda _: None,  # an earlier version of the same run is no twin
            lambda version: version.version,
        )

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:  # noqa: D102
        log = super().log_outputs

        def find() -> list[bool]:
            outputs = MlflowClient.get_run(self, run_id).outputs
            known = {output.model_id for output in outputs.model_outputs} if outputs else set()
            return [True] if {model.model_id for model in models} <= known else []

        self._make_once(lambda: log(run_id, models) is None, find, lambda _: None, bool)

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:  # noqa: D102
        place = self.get_run(run_id).info.artifact_uri if self.moved else ""
        for old, new in self.moved.items():
            here = Path(unquote(urlsplit(place.replace(old, new, 1)).path)) / path
            if place.startswith(old) and here.exists():
                return str(here)
        return str(self._retried(super().download_artifacts, run_id, path, dst_path))

    def delete_tag(self, run_id: str, key: str) -> None:  # noqa: D102
        self._unless_gone(super().delete_tag, run_id, key)

    def delete_logged_model(self, model_id: str) -> None:  # noqa: D102
        self._unless_gone(super().delete_logged_model, model_id)

    def _unless_gone(self, *request: Any) -> None:
        try:
            self.patiently(*request)
        except StoreError as error:
            if getattr(error.__cause__, "error_code", None) != GONE:
                raise

    def log_all(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log any number of metrics, in as few requests as MLflow takes."""
        first, rest = metrics[:MAX_BATCH], metrics[MAX_BATCH:]
        all_params = [Param(key, str(value)) for key, value in (params or {}).items()]
        all_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        if first or all_params or all_tags:
            self.log_batch(run_id, metrics=first, params=all_params, tags=all_tags)
        if rest:
            self.log_all(run_id, rest)


IDEMPOTENT = (
    "create_experiment create_registered_model delete_run finalize_logged_model get_experiment get_experiment_by_name"
    " get_metric_history get_model_version_by_alias get_run log_artifact log_batch log_inputs log_model_artifacts"
    " log_text search_experiments search_logged_models search_runs set_experiment_tag set_registered_model_alias"
    " set_tag set_terminated update_run"
)


def _patient(name: str) -> Callable[..., Any]:
    request = getattr(MlflowClient, name)

    @functools.wraps(request)
    def patient(self: StoreClient, *arguments: Any, **options: Any) -> Any:
        return self.patiently(request, self, *arguments, **options)

    return patient


for _name in IDEMPOTENT.split():
    setattr(StoreClient, _name, _patient(_name))


def _say(message: str) -> None:
    if multiprocessing.parent_process() is None:  # the command says it once, not each of its processes
        sys.stderr.write(f"fedbench: {message}\n")
        sys.stderr.flush()
