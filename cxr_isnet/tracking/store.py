"""MLflow store: the database, and the folder of artifacts beside it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from cxr_isnet.errors import HIDDEN, InputError

SQLITE = "sqlite:///"
SERVERS = ("http", "https", "databricks", "postgresql", "mysql", "mssql")
ARTIFACT_FOLDER = "mlartifacts"
FAULTS = (MlflowException, SQLAlchemyError, OSError)
"""What MLflow's client raises when a store fails: a server is gone, a database locked, a disk full. `requests` raises
OSErrors."""
_HTTP = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""In place of MLflow's own 120 s and 7 retries, with which a server that is gone holds a call for many minutes."""


def resolve_uri(uri: str) -> str:
    """Tracking URI with the path of an SQLite file made absolute, so that it survives a change of directory.

    Args:
        uri: as a user gives it.

    Raises:
        InputError: a scheme that MLflow does not track to.
    """
    scheme = urlsplit(uri).scheme.split("+")[0]
    if uri.startswith(SQLITE) and uri != f"{SQLITE}:memory:":
        return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute())
    if f":{HIDDEN}@" in uri or f"={HIDDEN}" in uri:
        raise InputError(
            f"tracking uri {uri!r}: its password was left out where it was stored. Give it anew, or leave it out and "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if scheme in SERVERS or uri == "databricks":
        return uri
    raise InputError(
        f"tracking uri {uri!r}: MLflow cannot track to it. Give a file as 'sqlite:///mlflow.db' (relative) "
        "or 'sqlite:////full/path/mlflow.db', or a server as 'http://host:5000'"
    )


def _is_not_raised_too(record: logging.LogRecord) -> bool:
    """False for every record of MLflow's database session, which logs with a traceback what it also raises."""
    return False


def open_store(uri: str) -> MlflowClient:
    """Client of a store; the folder of an SQLite file and its tables are created when they are missing.

    Processes that open an SQLite file at once do so in turn, by `<file>.lock` beside it: MLflow creates the tables
    without a lock, and two processes that create them fail.

    Args:
        uri: a tracking URI as `resolve_uri` gives it.

    Raises:
        InputError: an SQLite file's folder cannot be created or written to.
    """
    for name, value in _HTTP.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").addFilter(_is_not_raised_too)
    if not uri.startswith(SQLITE):
        return MlflowClient(tracking_uri=uri)
    database = Path(uri.removeprefix(SQLITE))
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{database}.lock").acquire()
    except OSError as error:
        raise InputError(f"tracking uri {uri!r}: {error}. Name a file in a folder that can be written to") from error
    with lock:
        return MlflowClient(tracking_uri=uri)


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """Turns what a store raises that cannot be used into an `InputError`, for the time before anything was done.

    Args:
        uri: of the store, as `resolve_uri` gives it.
    """
    try:
        yield
    except FAULTS as error:
        root: BaseException = error
        while (inner := root.__cause__ or root.__context__) is not None:
            root = inner
        cause = str(root).partition("\n")[0][:300]
        raise InputError(
            f"tracking uri {uri!r} cannot be used ({type(root).__name__}: {cause}). Start the server or correct "
            "tracking.uri, or go without by --tracking.enabled false"
        ) from error


def is_new(uri: str) -> bool:
    """Whether a store is an SQLite file that is not there yet.

    Raises:
        InputError: its folder cannot be written to.
    """
    if not uri.startswith(SQLITE):
        return False
    database = Path(uri.removeprefix(SQLITE))
    folder = next(parent for parent in database.parents if parent.exists())
    if not database.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise InputError(f"tracking uri {uri!r}: {folder} cannot be written to. Name a file in a folder that can be")
    return not database.exists()


def find_experiment(client: MlflowClient, uri: str, name: str) -> Experiment | None:
    """An experiment that runs can be added to; None where it is missing.

    Raises:
        InputError: the experiment was deleted.
    """
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise InputError(
            f"{uri}: experiment {name!r} was deleted. Choose another name, or restore it with "
            f"'mlflow experiments restore --experiment-id {found.experiment_id}'"
        )
    return found


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Id of an experiment, created when it is missing.

    A new experiment of an SQLite store keeps its artifacts in `mlartifacts/` beside the database file (MLflow
    would put them into the working directory); a server decides for itself.

    Args:
        client: of the store.
        uri: tracking URI of the store.
        name: of the experiment.

    Raises:
        InputError: the experiment was deleted.
    """
    found = find_experiment(client, uri, name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(uri)))
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            return experiment_id(client, uri, name)  # another process made it meanwhile
    return str(found.experiment_id)


@contextmanager
def fluent_store(uri: str) -> Iterator[None]:
    """Set MLflow's global tracking URI for a block, then restore it.

    For the few calls that take no client: registering and loading models.
    """
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type] # None, which its type omits, unsets it


def _artifact_location(uri: str) -> str | None:
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).parent / ARTIFACT_FOLDER).as_uri()
