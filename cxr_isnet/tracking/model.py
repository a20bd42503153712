"""Models in MLflow: a checkpoint with the code that predicts from image files; log, register, load."""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml
from mlflow.entities import LoggedModel as StoredModel
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature, infer_signature
from mlflow.pyfunc import PyFuncModel
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from pandas.api.types import is_float_dtype

from cxr_isnet.errors import InputError
from cxr_isnet.tracking.registry import add_version, registry_lock
from cxr_isnet.tracking.run import MlflowRun, Run, made_by
from cxr_isnet.tracking.store import FAULTS, fluent_store, resolve_uri

CHECKPOINT = "checkpoint"
CONTENT = "content_sha256"
EXAMPLE_PATHS = 2
DISCLAIMER = "Research software, not a medical device."


_UNNAMEABLE = re.compile(r"""[/:.%"']""")
"""Characters that MLflow refuses in the name of a logged model."""


@dataclass(frozen=True)
class LoggedModel:
    """Reference to a model in an MLflow store.

    Attributes:
        model_uri: `models:/<model id>`; `load_model` takes it whether the model was registered or not.
        model_id: id in the store.
        name: registered name; None when not registered.
        version: registered version; None when not registered.
    """

    model_uri: str
    model_id: str
    name: str | None
    version: int | None


def log_model(
    run: Run,
    checkpoint: str | Path,
    *,
    python_model: str | Path,
    classes: Sequence[str],
    example_paths: Sequence[str],
    content: str = "",
    description: str = "",
    register: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    artifacts: Mapping[str, str] | None = None,
    code_paths: Sequence[str],
    pip_requirements: Sequence[str],
) -> LoggedModel | None:
    """Log a checkpoint as an MLflow pyfunc "model from code", with the run's parameters; the same content once.

    The model's `predict(context, model_input, params=None)` takes paths of image files and gives a frame whose first
    columns are `path` and a `probability_<class>` per class; it finds the checkpoint as
    `context.artifacts["checkpoint"]`. What is stored names no path of this machine. The model has the name of its run,
    by which a list of models tells them apart.

    Args:
        run: the run that made the model.
        checkpoint: the file of the weights.
        python_model: the Python file that ends in `mlflow.models.set_model(...)`.
        classes: names of the classes, in the order of the network's outputs.
        example_paths: two or more image files; the first two are predicted once, and not stored.
        content: digest of what is logged; a model of the run with the same one is taken as it is, so that a run which
            was killed on the way and resumed logs and registers one model. "" logs anew.
        description: of the model and of the registered version.
        register: name in the model registry, of which it becomes the candidate; None does not register.
        metadata: further metadata of the model, JSON values.
        params: parameters of `predict` with their defaults.
        artifacts: more files the model needs, by name.
        code_paths: packages and modules to ship with the model.
        pip_requirements: what they need; `pinned` gives the installed versions.

    Returns:
        Reference to the model; None from a run that logs nothing.

    Raises:
        InputError: a file is missing; fewer than two example paths; a registered name that MLflow refuses.
        ValueError: the model's code does not return these columns. What the code itself raises for the example is
            passed on. In each case nothing is logged.
    """
    if not isinstance(run, MlflowRun):
        return None
    files = {CHECKPOINT: str(checkpoint), **(artifacts or {})}
    _check(files, python_model, example_paths, register)
    tags = {"classes": ", ".join(classes), "disclaimer": DISCLAIMER, **({CONTENT: content} if content else {})}
    model_id = _logged_before(run, content) if content else None
    if model_id is None:
        noted = {**tags, MLFLOW_RUN_NOTE: description} if description else tags
        model_id = _log(
            run, files, python_model, classes, example_paths, noted, metadata, params, code_paths, pip_requirements
        )
    version = None
    if register:
        shown = {**tags, **{key: str(value) for key, value in (metadata or {}).items()}}
        with registry_lock(run.client, register):
            version = add_version(run.client, register, model_id, shown, description)
    return LoggedModel(f"models:/{model_id}", model_id, register, version)


def _logged_before(run: MlflowRun, content: str) -> str | None:
    """Id of the run's model of this content; what a kill left of one half-logged is marked as failed."""
    stored = run.client.get_run(run.run_id)
    of_run = f"source_run_id = '{run.run_id}' AND tags.{CONTENT} = '{content}'"
    whole = None
    for model in run.client.search_logged_models([stored.info.experiment_id], filter_string=of_run):
        if model.status == LoggedModelStatus.READY:
            whole = model.model_id
        elif model.status == LoggedModelStatus.PENDING:
            run.client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    linked = stored.outputs.model_outputs if stored.outputs else []
    if whole is not None and whole not in {output.model_id for output in linked}:
        run.client.log_outputs(run.run_id, [LoggedModelOutput(whole, step=0)])
    return whole


def _log(
    run: MlflowRun,
    files: Mapping[str, str],
    python_model: str | Path,
    classes: Sequence[str],
    example_paths: Sequence[str],
    tags: Mapping[str, str],
    metadata: Mapping[str, Any] | None,
    params: Mapping[str, Any] | None,
    code_paths: Sequence[str],
    pip_requirements: Sequence[str],
) -> str:
    """Save the model, try it, store it; returns its id."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "model"
        mlflow.pyfunc.save_model(
            path=str(local),
            python_model=str(python_model),
            artifacts=files,
            code_paths=list(code_paths),
            pip_requirements=list(pip_requirements),
            signature=False,  # `_complete` writes it, of the answer
            metadata={"classes": list(classes), "disclaimer": DISCLAIMER, **(metadata or {})},
        )
        answer = _check_example(local, classes, example_paths[:EXAMPLE_PATHS])
        stored = run.client.get_run(run.run_id)
        logged = run.client.create_logged_model(
            stored.info.experiment_id,
            name=_UNNAMEABLE.sub("_", stored.info.run_name),
            source_run_id=run.run_id,
            tags={**made_by(), **tags},
            params=stored.data.params,
            model_type="classifier",
        )
        _complete(local, answer, params or {}, logged)
        run.client.log_model_artifacts(logged.model_id, str(local))
    run.client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    run.client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


@contextmanager
def model_files(model_uri: str, tracking_uri: str) -> Iterator[Path]:
    """Folder of a stored model's files for a block; nothing that the model carries is run.

    Args:
        model_uri: as `load_model` takes it, or a folder with a file `MLmodel`.
        tracking_uri: of the store.

    Raises:
        InputError: there is no such model.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(model_uri)
        if not folder.is_dir():
            try:
                with fluent_store(resolve_uri(tracking_uri)):
                    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=temporary))
            except FAULTS as error:
                raise InputError(
                    f"model '{model_uri}': neither a file nor a model of the store {tracking_uri}: {error}"
                ) from error
        if not (folder / "MLmodel").is_file():
            raise InputError(f"model '{model_uri}': no file MLmodel in it: name a model that MLflow has saved")
        yield folder


def logged_checkpoint(folder: Path, code: str) -> Path | None:
    """The weights of a model that `log_model` has stored, which are read without its code; None of any other model.

    Args:
        folder: of the model's files.
        code: name of the Python file that it was logged with.

    Raises:
        InputError: the file `MLmodel` cannot be read.
    """
    try:
        flavor = Model.load(str(folder / "MLmodel")).flavors.get("python_function", {})
        logged = Path(str(flavor.get("model_code_path"))).name == code
        path = folder / str(flavor["artifacts"][CHECKPOINT]["path"]) if logged else None
    except (MlflowException, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'MLmodel'}: not the description of an MLflow model ({error!r:.200})") from error
    return path if path is not None and path.resolve().is_relative_to(folder.resolve()) else None


def load_model(model_uri: str, tracking_uri: str) -> PyFuncModel:
    """Load a logged or registered model, as `models:/NAME/1`, from a store. It runs the code that the model carries.

    Args:
        model_uri: `models:/<model id>`, `models:/<name>/<version>` or `models:/<name>@<alias>`.
        tracking_uri: of the store.

    Returns:
        The model; its `predict` takes a list of image paths.
    """
    with fluent_store(resolve_uri(tracking_uri)):
        model: PyFuncModel = mlflow.pyfunc.load_model(model_uri)
    return model


def pinned(needed: Sequence[str], optional: Sequence[str] = ()) -> list[str]:
    """Pip requirements pinned to the versions installed here; a local "+cpu" is dropped.

    Args:
        needed: packages that are installed.
        optional: packages that are left out where they are not.
    """
    installed = [*needed, *(name for name in optional if list(packages.distributions(name=name)))]
    return [f"{name}=={packages.version(name).split('+')[0]}" for name in installed]


def _check(
    files: Mapping[str, str], python_model: str | Path, example_paths: Sequence[str], register: str | None
) -> None:
    for name, file in {**files, "python_model": str(python_model)}.items():
        if not Path(file).exists():
            raise InputError(f"{file}: there is no such file ({name} of the model). Correct the path")
    if len(example_paths) < EXAMPLE_PATHS:
        raise InputError(f"example paths {list(example_paths)}: give at least {EXAMPLE_PATHS} image files")
    if register is not None:
        check_registered_name(register)


def check_registered_name(name: str) -> None:
    """Check a name for the model registry.

    Raises:
        InputError: MLflow's registry refuses it.
    """
    if not re.fullmatch(r"[^/:]+", name.strip()):
        raise InputError(f"registered name {name!r}: give a name that is not empty and has no '/' or ':'")


def _check_example(local: Path, classes: Sequence[str], example_paths: Sequence[str]) -> pd.DataFrame:
    """Predict the example with the model as it will be loaded; MLflow by itself only warns when that fails."""
    before = list(sys.path)
    try:
        answer: pd.DataFrame = mlflow.pyfunc.load_model(str(local)).predict(list(example_paths))
    finally:
        sys.path[:] = before  # MLflow leaves the model's code there, in a folder that will be gone
    columns = ["path", *(f"probability_{name}" for name in classes)]
    if list(answer.columns)[: len(columns)] != columns or list(answer["path"]) != list(example_paths):
        raise ValueError(f"the model's code returns {list(answer.columns)}, for a path each; want {columns} first")
    unread = answer.loc[answer[columns[1:]].isna().any(axis=1)]
    if len(unread):
        raise InputError(f"example paths: {unread.iloc[0].to_dict()}: give image files that can be read")
    return answer


def _complete(local: Path, answer: pd.DataFrame, params: Mapping[str, Any], logged: StoredModel) -> None:
    """Write the ids of the stored model and its signature into the saved model, and take this machine's paths out.

    The signature has outputs and parameters, and no inputs: with a schema MLflow refuses a path, bytes or an array
    where it says a list of text.
    """
    saved = Model.load(str(local / "MLmodel"))
    saved.artifact_path = "model"
    saved.run_id = logged.source_run_id
    saved.model_uuid = saved.model_id = logged.model_id
    columns: list[ColSpec | TensorSpec] = [
        ColSpec("double" if is_float_dtype(answer[name]) else "string", name) for name in answer.columns
    ]
    saved.signature = ModelSignature(outputs=Schema(columns))
    if params:
        saved.signature.params = infer_signature(params=dict(params)).params
    flavor = saved.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for entry in flavor["artifacts"].values():
        entry["uri"] = entry["path"]
    saved.save(str(local / "MLmodel"))
    for cache in local.rglob("__pycache__"):
        shutil.rmtree(cache)
