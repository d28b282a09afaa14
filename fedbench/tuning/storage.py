"""Optuna's storage and the study in it: opened, or made where there is none; every error is one line."""

from __future__ import annotations

import re
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from fedbench.tracking.mlflow.database import driver_of, require_reachable_database, without_password
from fedbench.tracking.mlflow.errors import elsewhere
from fedbench.tracking.mlflow.store import DEFAULT_FOLDER, checkpoint_folder, local_folder
from fedbench.tuning.plan import Plan
from fedbench.tuning.slots import CHOSEN, MAX_RETRIES
from fedbench.util.advice import command
from fedbench.util.errors import StoreError, one_line
from fedbench.util.files import sqlite_address

optuna.logging.set_verbosity(optuna.logging.ERROR)  # fedbench reports the trials
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats; constraints.txt has what was tested
warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # `fedbench.tuning.search` records them

HEARTBEAT_SECONDS = 10
DEAD_AFTER_SECONDS = 60  # without a heartbeat, for a process on another machine; see `fedbench.tuning.search`
WAIT_SECONDS = 60  # for another process that writes to the same SQLite file
MAKING_ATTEMPTS, MAKING_SECONDS = 10, 0.2  # while others make the same tables
STUDY = "fedbench.study"  # the attribute of a study with its identity, and a suffix of this copy's own


def retry(study: Study, trial: FrozenTrial) -> None:
    """Queue a dead trial again, with its parameters.

    One that died before it had all of them draws them anew: the sampler's next number is another one if some are given.
    """
    if CHOSEN not in trial.user_attrs:
        trial = copy(trial)
        trial.params, trial.distributions = {}, {}
    RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)(study, trial)


def default_storage(tracking_uri: str) -> str:
    """The storage next to a SQLite tracking store, else in ``mlruns/`` of the working directory."""
    return sqlite_address((local_folder(tracking_uri) or DEFAULT_FOLDER) / "optuna.db")


def lock_folder(url: str, tracking_uri: str) -> Path:
    """Where this machine locks the trials under way: next to a SQLite file, else with the checkpoints."""
    folder = local_folder(url)
    return folder / "checkpoints" if folder else checkpoint_folder(tracking_uri)


def open_storage(url: str) -> RDBStorage:
    """The storage at `url`; a SQLite file and the tables of an empty database are made.

    Raises
    ------
    StoreError
        If it cannot be opened or written, belongs to another program or was made by another version of Optuna.
    """
    with storage_errors(url):
        if url.startswith("sqlite:"):
            if (folder := local_folder(url)) is None:
                raise StoreError(f"storage {without_password(url)} names no file: use sqlite:///FOLDER/optuna.db")
            folder.mkdir(parents=True, exist_ok=True)
            options: dict[str, Any] = {"engine_kwargs": {"connect_args": {"timeout": WAIT_SECONDS}}}
        else:
            require_reachable_database(url, "storage", "--storage")
            options = {
                "engine_kwargs": {"pool_pre_ping": True},  # a server may have closed a connection meanwhile
                "heartbeat_interval": HEARTBEAT_SECONDS,
                "grace_period": DEAD_AFTER_SECONDS,
                "heartbeat_stale_trial_callback": retry,
            }
        attempts = Retrying(  # of several that make the same tables, all but one fail
            stop=stop_after_attempt(1 if _is_made(url) else MAKING_ATTEMPTS),
            wait=wait_fixed(MAKING_SECONDS),
            retry=retry_if_exception_type((SQLAlchemyError, OptunaError)),
            reraise=True,
        )
        return attempts(RDBStorage, url, **options)


def _is_made(url: str) -> bool:
    """Whether Optuna's tables exist.

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


def open_study(storage: RDBStorage, plan: Plan, identity: str) -> optuna.Study:
    """The study of a plan, created with the default configuration as its first trial if it does not exist.

    `identity` is that of `fedbench.tuning.plan.identity`. Another study of its name is a `StoreError`.
    """
    name = f"{plan.suite}.{plan.scenario} {plan.objective} {identity[:8]}"
    direction = StudyDirection.MINIMIZE if plan.objective.is_minimised else StudyDirection.MAXIMIZE
    place = without_password(storage.url)
    delete = command("optuna", "delete-study", study_name=name, storage=place)
    advice = f"delete it with `{delete}`, or name another storage with --storage"
    with storage_errors(storage.url), _readable(f"storage {place} has a study {name!r} that", advice):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=direction,
            sampler=optuna.samplers.RandomSampler(),  # until a trial has its own
            pruner=optuna.pruners.MedianPruner() if plan.pruning else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        if not study.get_trials(deepcopy=False) and STUDY not in study.user_attrs:
            study.set_user_attr(STUDY, f"{identity}-{secrets.token_hex(4)}")
        is_ours = re.fullmatch(rf"{re.escape(identity)}-[0-9a-f]{{8}}", str(study.user_attrs.get(STUDY)))
        if not is_ours or study.direction is not direction:
            raise StoreError(f"storage {place} has a study {name!r} that fedbench did not make: {advice}")
        study.enqueue_trial(dict(plan.default), skip_if_exists=True)
    return study


@contextmanager
def _readable(what: str, advice: str) -> Iterator[None]:
    """Let Optuna read what may be of another program or version: whatever it raises becomes a line."""
    try:
        yield
    except (StoreError, SQLAlchemyError, OptunaError, OSError, ImportError):
        raise
    except Exception as error:
        raise StoreError(f"{what} Optuna cannot read ({one_line(error)[:200]}): {advice}") from error


def trial_id(storage: RDBStorage, study: optuna.Study, number: int) -> int:
    """The storage's own id of a trial."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study.study_name), number)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Use a storage: what goes wrong becomes a `StoreError` of one line."""
    shown = without_password(url)
    try:
        yield
    except RuntimeError as error:
        if "optuna version" not in str(error):
            raise
        upgrade = command("optuna", "storage", "upgrade", storage=shown)
        raise StoreError(
            f"storage {shown} was made by another version of Optuna than this one ({optuna.__version__}): upgrade "
            f"optuna if it is newer, run `{upgrade}` if it is older, or name another "
            "with --storage"
        ) from error
    except ImportError as error:
        raise StoreError(f"storage {shown} needs a driver ({error}): {driver_of(url)}") from error
    except (SQLAlchemyError, OptunaError, OSError) as error:
        if problem := elsewhere(url, error):
            raise StoreError(problem) from error
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        problem = " ".join(str(cause).split()).partition(" [SQL:")[0][:300]
        raise StoreError(
            f"storage {shown} failed ({problem}): check that it can be written, or name another with --storage"
        ) from error
