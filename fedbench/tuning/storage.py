"""Optuna's storage: opened, made where there is none, and every error one line."""

from __future__ import annotations

import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from fedbench.tracking.mlflow.database import driver_of, require_reachable_database, without_password
from fedbench.tracking.mlflow.store import DEFAULT_FOLDER, local_folder
from fedbench.tuning.plan import Plan
from fedbench.tuning.sampler import SlotSampler
from fedbench.tuning.slots import MAX_RETRIES
from fedbench.util.errors import StoreError
from fedbench.util.files import exclusive

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what a trial came to is told by fedbench
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats; constraints.txt has what was tested

HEARTBEAT_SECONDS = 10
DEAD_AFTER_SECONDS = 60  # without a heartbeat; a dead process of this machine is known to be dead at once
WAIT_SECONDS = 60  # for another process that writes to the same SQLite file
MAKING_ATTEMPTS, MAKING_SECONDS = 10, 0.2  # while others make the same tables
PING: dict[str, Any] = {"pool_pre_ping": True}  # a server may have closed a connection meanwhile
IDENTITY = "fedbench.study"  # the study's attribute that says what it is of
COPY = "fedbench.copy"  # and what tells it from another of the same, in another storage or after this one was deleted


class _Storage(RDBStorage):
    """A storage whose heartbeats may fail: they come from a thread that would end with a traceback, for good."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(SQLAlchemyError, OptunaError):  # if it is gone for long, the trial will find out
            super().record_heartbeat(trial_id)


def default_storage(tracking_uri: str) -> str:
    """The storage beside a SQLite tracking store, else in ``mlruns/`` of the working directory."""
    return f"sqlite:///{(local_folder(tracking_uri) or DEFAULT_FOLDER) / 'optuna.db'}"


def retry() -> RetryHeartbeatStaleTrialCallback:
    """What puts a dead trial back into the queue, with the same parameters."""
    return RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)


def open_storage(url: str) -> RDBStorage:
    """The storage at `url`; a SQLite file and the tables of an empty database are made.

    Raises
    ------
    StoreError
        If it cannot be opened or written, is another program's or was made by another version of Optuna.
    """
    shown = without_password(url)
    with storage_errors(url):
        if url.startswith("sqlite:"):
            folder = local_folder(url)
            if folder is None:
                raise StoreError(f"storage {shown} names no file: use sqlite:///FOLDER/optuna.db")
        else:
            folder = None
            require_reachable_database(url, "storage", "--storage")
        attempts = 1 if _is_made(url) else MAKING_ATTEMPTS
        with exclusive(folder) if folder and attempts > 1 else nullcontext():
            storage = _open(url, {"connect_args": {"timeout": WAIT_SECONDS}} if folder else PING, attempts)
        if folder:
            _write_one_at_a_time(storage.engine)
        return storage


def _open(url: str, engine_options: dict[str, Any], attempts: int) -> RDBStorage:
    """Open a storage, or make it; of those that make one at once on a server all but one fail, and look again."""
    while True:
        attempts -= 1
        try:
            return _Storage(
                url,
                engine_kwargs=dict(engine_options),
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
                heartbeat_stale_trial_callback=retry(),
            )
        except (SQLAlchemyError, OptunaError):
            if not attempts:
                raise
            time.sleep(MAKING_SECONDS)


def _is_made(url: str) -> bool:
    """Whether Optuna's tables are there.

    Another program's database is refused, such as MLflow's: both would keep their versions in one table.
    """
    engine = create_engine(url)
    try:
        tables = set(inspect(engine).get_table_names())
        if tables and "studies" not in tables:
            place = without_password(url)
            raise StoreError(f"storage {place} is another program's database: name another with --storage")
        if "alembic_version" not in tables:
            return False
        with engine.connect() as connection:  # which is written last
            return connection.execute(text("SELECT 1 FROM alembic_version")).first() is not None
    finally:
        engine.dispose()


def _write_one_at_a_time(engine: Engine) -> None:
    """Let every transaction on SQLite lock the file when it begins.

    Optuna looks before it writes: without the lock two processes could take up the same trial.
    """

    def on_connect(connection: DBAPIConnection, _: object) -> None:
        connection.isolation_level = None  # else Python begins transactions by itself, and not before the first write

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    engine.dispose()  # connections that were made before


def open_study(storage: RDBStorage, plan: Plan, identity: str) -> optuna.Study:
    """The study of a plan, made and begun with the default configuration if it is not there yet.

    Parameters
    ----------
    identity
        Of the plan and its data (see `fedbench.tuning.plan.identity`).

    Raises
    ------
    StoreError
        If the storage fails, or has a study of this name that is of something else.
    """
    name = f"{plan.suite}.{plan.scenario} {plan.objective} {identity[:8]}"
    sampler = SlotSampler(plan)
    pruner = optuna.pruners.MedianPruner() if plan.pruning else optuna.pruners.NopPruner()
    direction = StudyDirection.MINIMIZE if plan.objective.is_minimised else StudyDirection.MAXIMIZE
    with storage_errors(storage.url):
        try:
            study = optuna.create_study(
                storage=storage, study_name=name, direction=direction, sampler=sampler, pruner=pruner
            )
            _begin(study, plan, identity)
        except DuplicatedStudyError:
            study = optuna.load_study(storage=storage, study_name=name, sampler=sampler, pruner=pruner)
            _await_first_trial(study, plan, identity)
    found = study.user_attrs.get(IDENTITY)
    if found != identity or study.direction is not direction:
        raise StoreError(
            f"storage {without_password(storage.url)} has a study {name!r} that fedbench did not make: delete it with "
            "`optuna delete-study`, or name another storage with --storage"
        )
    return study


def _begin(study: optuna.Study, plan: Plan, identity: str) -> None:
    study.set_user_attr(COPY, secrets.token_hex(4))
    study.set_user_attr(IDENTITY, identity)
    study.enqueue_trial(dict(plan.default), skip_if_exists=True)


def copy_of(study: optuna.Study, identity: str) -> str:
    """What a study is called in MLflow: two of the same identity may have other trials, which must not be mixed."""
    return f"{identity}-{study.user_attrs[COPY]}" if COPY in study.user_attrs else identity


def _await_first_trial(study: optuna.Study, plan: Plan, identity: str) -> None:
    """Wait until whoever made the study has put the default into it; do so if that process was killed before."""
    for _ in range(50):
        if study.get_trials(deepcopy=False):
            return
        time.sleep(0.1)
    if study.user_attrs.get(IDENTITY) in (None, identity):
        _begin(study, plan, identity)


def _database_error(error: BaseException | None) -> BaseException | None:
    """The error, or that which it hides: where a storage fails at the end of a trial, Optuna stumbles over it."""
    while error and not isinstance(error, (SQLAlchemyError, OptunaError)):
        error = error.__context__
    return error


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Use a storage: what goes wrong becomes a `StoreError` of one line."""
    shown = without_password(url)
    try:
        yield
    except RuntimeError as error:
        if "optuna version" not in str(error):
            raise
        raise StoreError(
            f"storage {shown} was made by another version of Optuna than this one ({optuna.__version__}): upgrade "
            f"optuna if it is newer, run `optuna storage upgrade --storage {shown}` if it is older, or name another "
            "with --storage"
        ) from error
    except ImportError as error:
        raise StoreError(f"storage {shown} needs a driver ({error}): {driver_of(url)}") from error
    except (SQLAlchemyError, OptunaError, OSError, UnboundLocalError, AssertionError) as error:
        found = error if isinstance(error, OSError) else _database_error(error)
        if found is None:
            raise
        cause = found
        while cause.__cause__:
            cause = cause.__cause__
        problem = " ".join(str(cause).split()).partition(" [SQL:")[0][:300]
        raise StoreError(
            f"storage {shown} failed ({problem}): check that it can be written, or name another with --storage"
        ) from error
