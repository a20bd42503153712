"""Registered models: versions, the aliases `candidate` and `champion`, and a lock, so that no two changes cross."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from cxr_isnet.errors import InputError
from cxr_isnet.files import DISCLAIMER
from cxr_isnet.tracking.parameters import safe_key
from cxr_isnet.tracking.store import fluent_store

CANDIDATE = "candidate"
CHAMPION = "champion"
METHOD = "method"
LOCK_SUFFIX = " is being changed"
LOCK_SECONDS = 120.0
_EXISTS, _MISSING = ErrorCode.Name(RESOURCE_ALREADY_EXISTS), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)


@contextmanager
def registry_lock(client: MlflowClient, name: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Holds a registered name, so that others that change its versions or aliases wait.

    The lock is a registered model of its own, `<name> is being changed`: names are unique in the store's database, so
    that of all that create it at once, on whatever machine, one succeeds. It is deleted at the end.

    Args:
        client: of the store.
        name: the registered name.
        seconds: how long to wait for another.

    What a killed process of this machine left is removed.

    Raises:
        InputError: another holds it for longer; one that was killed on another machine holds it for ever, and the
            message says how to remove it.
    """
    lock, until = name + LOCK_SUFFIX, time.monotonic() + seconds
    while True:
        try:
            client.create_registered_model(lock, description=_held_by(os.getpid()))
            break
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise
        _remove_if_dead(client, lock)
        if time.monotonic() > until:
            raise InputError(
                f"{name!r} is being changed by another for more than {seconds:g} s. Try again; if that process was "
                f"killed, remove the registered model {lock!r}, which is its lock: "
                f"mlflow.MlflowClient().delete_registered_model({lock!r})"
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def _held_by(pid: int) -> str:
    """The owner of a lock, in words: machine, its space of process numbers (as of a container), process."""
    space = Path("/proc/self/ns/pid")
    return f"held by {platform.node()}, {os.readlink(space) if space.exists() else ''}, process {pid}"


def _remove_if_dead(client: MlflowClient, lock: str) -> None:
    """Removes a lock whose process, of this machine, is gone; processes of the machine look one after the other."""
    with FileLock(Path(tempfile.gettempdir()) / f"cxr-isnet-registry-{os.getuid()}.lock"):
        try:
            owner = str(client.get_registered_model(lock).description)
        except MlflowException:
            return  # released meanwhile
        pid = owner.rpartition(" ")[2]
        if not pid.isdigit() or owner != _held_by(int(pid)):
            return
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            client.delete_registered_model(lock)
        except PermissionError:
            return  # another user's, and alive


def version_with_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that an alias names; None where there is no such name or alias."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException:
        if _exists(client, name) and alias in client.get_registered_model(name).aliases:
            raise  # an alias of a version that was deleted
        return None


def check_method(client: MlflowClient, name: str, method: str) -> None:
    """Refuses a model of another method than those that a name stands for.

    Args:
        client: of the store.
        name: the registered name; one that does not exist takes any method.
        method: of the model.

    Raises:
        InputError: a version of the name is of another method.
    """
    if not _exists(client, name):
        return
    others = {version.tags.get(METHOD, method) for version in client.search_model_versions(f"name = {_quoted(name)}")}
    if others - {method}:
        raise InputError(
            f"registered name {name!r} stands for models of method {', '.join(sorted(others))}, and this one is of "
            f"{method!r}: whoever loads the newest version would get another method unasked. Give it a name of its own"
        )


def add_version(client: MlflowClient, name: str, model_id: str, tags: Mapping[str, str], description: str = "") -> int:
    """The version of a stored model, made where there is none, as `@candidate`; the lock is held.

    Args:
        client: of the store.
        name: the registered name; created when it is missing.
        model_id: of the stored model.
        tags: of the version, which has them from the first moment on.
        description: of the version.

    Returns:
        Its number.

    Raises:
        InputError: as `check_method`, of the tag `method`.
    """
    if METHOD in tags:
        check_method(client, name, tags[METHOD])
    if not _exists(client, name):
        client.create_registered_model(name, description=f"Classifiers of chest X-rays. {DISCLAIMER}")
    uri = f"models:/{model_id}"
    found = [v for v in client.search_model_versions(f"name = {_quoted(name)}") if v.source == uri]
    if found:
        version = found[0]
    else:
        run_id = client.get_logged_model(model_id).source_run_id
        named = {safe_key(key): value for key, value in tags.items()}
        with fluent_store(client.tracking_uri):  # by which a database's registry finds the model
            version = client.create_model_version(
                name, uri, run_id=run_id, tags=named, description=description or None, model_id=model_id
            )
        _link(client, model_id, name, int(version.version))
    client.set_registered_model_alias(name, CANDIDATE, version.version)
    return int(version.version)


def _link(client: MlflowClient, model_id: str, name: str, version: int) -> None:
    """Names a version on its model's page, as `mlflow.register_model` does."""
    there = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS) or "[]")
    linked = json.dumps([*there, {"name": name, "version": version}])
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: linked})


def _exists(client: MlflowClient, name: str) -> bool:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != _MISSING:
            raise
        return False
    return True


def _quoted(name: str) -> str:
    quote = '"' if "'" in name else "'"
    return f"{quote}{name}{quote}"
