"""One MLflow run: configuration, environment, data sets, metrics and artifacts of what a command did.

Tracking is a side channel: once a run has started, a store that fails ends nothing. What could not be sent is kept in
order, and sent with whatever comes next, and at the end.
"""

import getpass
import hashlib
import json
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import torch.distributed
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag, SourceType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from cxr_isnet.errors import InputError, hide_passwords, sigterm_deferred
from cxr_isnet.tracking.environment import environment
from cxr_isnet.tracking.parameters import distinct_keys, flatten, safe_key
from cxr_isnet.tracking.store import FAULTS, experiment_id, find_experiment, is_new, open_store, reached, resolve_uri

logger = logging.getLogger(__name__)

METRICS_PER_BATCH = 1000
PARAMETERS_PER_BATCH = 100
TAG_LENGTH = 5000
DIGEST_LENGTH = 36
IDENTITY_COLUMNS = ("patient_id",)
PATH_COLUMNS = ("image", "mask", "path")
"""Of which the names of the files alone belong to the content of a data set."""
SITES_NAMED = 4
"""Hospitals that the name of a data set lists; of more it says the number."""
ROW_LEVEL = ("predictions.csv", "predictions.parquet")
"""Files with a row for every image."""
RETRY_SECONDS = 30.0
"""How long a store that failed is left alone: a server that is gone costs its time-outs once, not at every call."""


@dataclass(frozen=True)
class TrackingConfig:
    """MLflow store and experiment that runs are logged to.

    Attributes:
        uri: `sqlite:///FILE` (artifacts lie in `mlartifacts/` beside the file) or the address of a server.
        experiment: name of the experiment; created when it is missing.
        run_name: name of the run; None says what was done, as "isnet densenet121 seed 0 (first)".
        enabled: False logs nothing.
        tables: also logs the tables that have a row for every image, with patients, sex, age and paths; else they stay
            in the output folder.

    Raises:
        InputError: the URI is none that MLflow tracks to.

    Example:
        >>> TrackingConfig(uri="sqlite:///runs/mlflow.db", experiment="tb").enabled
        True
    """

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "cxr-isnet"
    run_name: str | None = None
    enabled: bool = True
    tables: bool = False

    def __post_init__(self) -> None:
        resolve_uri(self.uri)


class Run(ABC):
    """Interface of a tracked run. A context manager: leaving it ends the run.

    Attributes:
        run_id: id of the run; "" when nothing is logged.
        uri: tracking URI of the store; "" when nothing is logged.
    """

    run_id: str
    uri: str

    @abstractmethod
    def log_metrics(
        self, metrics: Mapping[str, float], step: int, *, model_id: str | None = None, dataset: str | None = None
    ) -> None:
        """Log metrics of one step in one call.

        NaN is logged as NaN, so that "undefined" is seen. Infinities are stored by MLflow as the largest float.

        Args:
            metrics: name -> value; characters that MLflow refuses in a name become "_".
            step: number of the step, as the epoch.
            model_id: a logged model, of which they are metrics too.
            dataset: name of the data set, logged before, that they were computed on.
        """

    @abstractmethod
    def log_steps(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Log the metrics of several steps, but for steps that the run has already: as after a resumption.

        Args:
            steps: number of the step -> metrics, the same names in all.
        """

    @abstractmethod
    def send(self, what: str, call: Callable[[], object]) -> bool:
        """Do something in the store; where the store fails, keep it and try again later.

        Args:
            what: names it in the warning.
            call: does it; may be called several times.

        Returns:
            Whether it is done.
        """

    @abstractmethod
    def log_dataset(
        self, frame: pd.DataFrame, name: str, context: str, digest: str, *, source: str | None = None
    ) -> None:
        """Link a data set to the run: name, digest, columns and counts, no rows and no patient ids.

        It is shown as "external: Cedar, Dogwood": of two trainings one sees whether they had the same hospitals; the
        digest says whether they had the same rows.

        Args:
            frame: the rows.
            name: of the data set, as of the part that it is.
            context: what it was used for: "training", "validation", "test".
            digest: of the tables that it was read from; rows and digest together are the content.
            source: where it comes from, as the path of its manifest; `name` when not given.
        """

    @abstractmethod
    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a figure as the artifact `name`, as "figures/roc.png"."""

    @abstractmethod
    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all it holds, but for tables with a row for every image unless they are wanted.

        Args:
            path: of the file or folder; its name is kept.
            folder: folder of the artifacts to put it into; None for the top one.
        """

    @abstractmethod
    def log_dict(self, content: Mapping[str, Any], name: str) -> None:
        """Log a mapping as the artifact `name`, JSON or YAML by its suffix."""

    @abstractmethod
    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; values are shortened to 5000 characters."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class MlflowRun(Run):
    """Run in an MLflow store, through a client of its own: no global state, so several runs may be open."""

    def __init__(
        self, client: MlflowClient, uri: str, run_id: str, *, tables: bool = False, resumed: bool = False
    ) -> None:
        """Set up for a run that exists and is running.

        Args:
            client: of the store.
            uri: tracking URI of the store.
            run_id: id of the run.
            tables: as of `TrackingConfig`.
            resumed: it may hold some of what will be logged, which is then not sent again.
        """
        self.client = client
        self.uri = uri
        self.run_id = run_id
        self._tables = tables
        self._resumed = resumed
        self._datasets: dict[str, Dataset] = {}
        self._unsent: list[tuple[str, Callable[[], object]]] = []
        self._retry_at = 0.0

    def send(self, what: str, call: Callable[[], object]) -> bool:
        waiting = (what, call)
        self._unsent.append(waiting)
        if time.monotonic() >= self._retry_at:
            with sigterm_deferred():
                self._send_waiting()
        return waiting not in self._unsent

    def _send_waiting(self) -> None:
        """Send what is kept, in order; stop where the store fails. What it refuses for good is left out."""
        while self._unsent:
            what, call = self._unsent[0]
            try:
                call()
            except FAULTS as error:
                if _is_outage(error):
                    self._retry_at = time.monotonic() + RETRY_SECONDS
                    logger.warning("MLflow: %s not logged, will be tried again: %s", what, _in_a_line(error))
                    return
                logger.warning("MLflow: %s not logged: %s", what, _in_a_line(error))
            del self._unsent[0]

    def log_metrics(
        self, metrics: Mapping[str, float], step: int, *, model_id: str | None = None, dataset: str | None = None
    ) -> None:
        now = int(time.time() * 1000)
        on = self._datasets.get(dataset or "")
        of = {"model_id": model_id} | ({"dataset_name": on.name, "dataset_digest": on.digest} if on else {})
        keys = distinct_keys(list(metrics))
        entries = [Metric(keys[name], float(value), now, step, **of) for name, value in metrics.items()]
        self.send(f"metrics of step {step}", lambda: self._log_entries(self._lacking(entries)))

    def _lacking(self, entries: list[Metric]) -> list[Metric]:
        """Those that the run does not hold: it may have been killed behind some of them."""
        if not self._resumed:
            return entries
        held = {_point(old) for entry in entries for old in self.client.get_metric_history(self.run_id, entry.key)}
        return [entry for entry in entries if _point(entry) not in held]

    def log_steps(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        self.send(f"metrics of steps {min(steps)} to {max(steps)}", lambda: self._log_lacking(steps))

    def _log_lacking(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        first = safe_key(next(iter(next(iter(steps.values())))))
        there = {entry.step for entry in self.client.get_metric_history(self.run_id, first)}
        now = int(time.time() * 1000)
        self._log_entries(
            [
                Metric(safe_key(name), float(value), now, step)
                for step, metrics in steps.items()
                if step not in there
                for name, value in metrics.items()
            ]
        )

    def _log_entries(self, entries: list[Metric]) -> None:
        for start in range(0, len(entries), METRICS_PER_BATCH):
            self.client.log_batch(self.run_id, metrics=entries[start : start + METRICS_PER_BATCH])

    def log_parameters(self, parameters: Mapping[str, str]) -> None:
        """Log flat parameters; MLflow never changes one, so another value of a resumed run is a tag `resumed.<key>`."""
        before = self.client.get_run(self.run_id).data.params
        changed = {key: value for key, value in parameters.items() if before.get(key, value) != value}
        if changed:
            logger.warning("run %s is resumed with other values of %s", self.run_id, ", ".join(changed))
            self.set_tags({f"resumed.{key}": value for key, value in changed.items()})
        entries = [Param(key, value) for key, value in parameters.items() if key not in before]
        for start in range(0, len(entries), PARAMETERS_PER_BATCH):
            self.client.log_batch(self.run_id, params=entries[start : start + PARAMETERS_PER_BATCH])

    def log_dataset(
        self, frame: pd.DataFrame, name: str, context: str, digest: str, *, source: str | None = None
    ) -> None:
        shown = frame.drop(columns=[column for column in IDENTITY_COLUMNS if column in frame.columns])
        described = from_pandas(shown, name=_with_sites(name, frame), digest=_content(frame, digest)).to_dict()
        described |= {"source_type": "local", "source": json.dumps({"uri": source or name})}
        dataset = Dataset(**described)
        entry = DatasetInput(dataset=dataset, tags=[InputTag(MLFLOW_DATASET_CONTEXT, context)])
        self._datasets[name] = dataset
        self.send(f"data set {name}", lambda: self.client.log_inputs(self.run_id, datasets=[entry]))

    def log_figure(self, figure: Figure, name: str) -> None:
        self.send(name, lambda: self.client.log_figure(self.run_id, figure, name))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        path = Path(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_dir() or (file.name in ROW_LEVEL and not self._tables):
                continue
            parents = [folder, *((path.name, *file.relative_to(path).parts[:-1]) if path.is_dir() else ())]
            target = "/".join(part for part in parents if part)
            self.send(str(file), partial(self.client.log_artifact, self.run_id, str(file), target or None))

    def log_dict(self, content: Mapping[str, Any], name: str) -> None:
        self.send(name, lambda: self.client.log_dict(self.run_id, dict(content), name))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        entries = [RunTag(safe_key(key), str(value)[:TAG_LENGTH]) for key, value in tags.items()]
        for start in range(0, len(entries), PARAMETERS_PER_BATCH):
            part = entries[start : start + PARAMETERS_PER_BATCH]
            self.send("tags", partial(self.client.log_batch, self.run_id, tags=part))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the run: FINISHED, KILLED after Ctrl-C or SIGTERM, FAILED after any other exception."""
        status = RunStatus.FINISHED if kind is None else RunStatus.FAILED
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            status = RunStatus.KILLED
        self._retry_at = 0.0
        self.send(
            f"status {RunStatus.to_string(status)}",
            lambda: self.client.set_terminated(self.run_id, RunStatus.to_string(status)),
        )
        if self._unsent:
            logger.warning(
                "MLflow run %s in %s lacks %d entries, from %s on; the results are in the output folder. A training "
                "that is resumed (--resume true) sends them; any other command, given again, logs a run anew",
                self.run_id,
                hide_passwords(self.uri),
                len(self._unsent),
                self._unsent[0][0],
            )


def _with_sites(name: str, frame: pd.DataFrame) -> str:
    """Name of a data set with its hospitals."""
    sites = sorted(set(frame["site"].astype(str))) if "site" in frame.columns else []
    if not sites:
        return name
    return f"{name}: {', '.join(sites) if len(sites) <= SITES_NAMED else f'{len(sites)} hospitals'}"


def _content(frame: pd.DataFrame, tables: str) -> str:
    """Digest of rows in any order and in any folder, and of the tables that they are a part of."""
    rows = frame.assign(**{c: frame[c].map(os.path.basename) for c in PATH_COLUMNS if c in frame.columns})
    rows = rows.astype(object).where(rows.notna(), "").astype(str)  # an age or a sex may be missing
    lines = sorted(map("\t".join, rows.itertuples(index=False)))
    content = "\n".join([tables, *frame.columns, *lines])
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:DIGEST_LENGTH]


def _point(metric: Metric) -> tuple[str, int, str]:
    """What tells a point of a metric from its others; its model and data set are not in the history."""
    return metric.key, metric.step, str(metric.value)


def _is_outage(error: Exception) -> bool:
    """Whether the store may take later what it does not take now."""
    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() >= 500)
    return not isinstance(error, FileNotFoundError)


def _in_a_line(error: Exception) -> str:
    return hide_passwords(f"{type(error).__name__}: {error}".partition("\n")[0][:300])


class NullRun(Run):
    """Run that logs nothing: tracking is switched off, or rank 0 of a distributed training logs it."""

    run_id = ""
    uri = ""

    def log_metrics(
        self, metrics: Mapping[str, float], step: int, *, model_id: str | None = None, dataset: str | None = None
    ) -> None:
        pass

    def log_steps(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        pass

    def send(self, what: str, call: Callable[[], object]) -> bool:
        return True

    def log_dataset(
        self, frame: pd.DataFrame, name: str, context: str, digest: str, *, source: str | None = None
    ) -> None:
        pass

    def log_figure(self, figure: Figure, name: str) -> None:
        pass

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        pass

    def log_dict(self, content: Mapping[str, Any], name: str) -> None:
        pass

    def set_tags(self, tags: Mapping[str, object]) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


def start_run(
    config: TrackingConfig,
    *,
    kind: str,
    name: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, object] | None = None,
    run_id: str | None = None,
) -> AbstractContextManager[Run]:
    """Start a run, or resume one that was interrupted, and log its configuration and environment.

    Args:
        config: store and experiment.
        kind: of what is done, as "training" or "audit": the tag `kind`, by which a list of runs is filtered.
        name: of the run where the configuration has none: what is done, to what, and the output folder.
        parameters: the whole configuration, nested; logged with dotted keys.
        tags: further tags.
        run_id: an existing run to resume.

    Returns:
        The run, to be used in a `with` statement. On other ranks than 0 of a distributed training, and when
        tracking is switched off, a `NullRun`.

    Raises:
        InputError: the store cannot be written to; the experiment was deleted; there is no run `run_id`.
    """
    if not config.enabled or _rank() != 0:
        return NullRun()
    uri = resolve_uri(config.uri)
    resumed = run_id is not None
    with reached(uri):
        client = open_store(uri)
        if run_id is None:
            experiment = experiment_id(client, uri, config.experiment)
            made = client.create_run(experiment, run_name=config.run_name or name, tags=made_by())
            run_id = str(made.info.run_id)
        else:
            resume_run(client, uri, run_id)
        run = MlflowRun(client, uri, run_id, tables=config.tables, resumed=resumed)
        try:
            flat = flatten(parameters)
            run.log_parameters(flat)
            _log_environment(run, flat)
            run.set_tags({"kind": kind, **(tags or {})})
            logger.info("MLflow run %s in %s", run_id, hide_passwords(uri))
        except BaseException as error:
            run.__exit__(type(error), error, error.__traceback__)
            raise
    return run


def made_by() -> dict[str, str]:
    """What MLflow shows of a run or model as "Created by" and "Source", as it notes it of its own."""
    try:
        user = {MLFLOW_USER: getpass.getuser()}
    except (OSError, KeyError):
        user = {}  # as in a container whose user has no name
    return {**user, MLFLOW_SOURCE_NAME: "cxr-isnet", MLFLOW_SOURCE_TYPE: SourceType.to_string(SourceType.LOCAL)}


def check_store(config: TrackingConfig, run_id: str | None = None) -> None:
    """Check that a run could start, before the work that it is to log; nothing is created.

    Args:
        config: store and experiment.
        run_id: an existing run to resume.

    Raises:
        InputError: the store does not answer, or a new one cannot be created; the experiment was deleted; there is no
            run `run_id`.
    """
    if not config.enabled or _rank() != 0:
        return
    uri = resolve_uri(config.uri)
    if run_id is None and is_new(uri):
        return
    with reached(uri):
        client = open_store(uri)
        find_experiment(client, uri, config.experiment)
        if run_id is not None:
            check_run(client, uri, run_id)


def nested_in(run: Run) -> dict[str, object]:
    """Tags of a child run, which MLflow shows below `run`; none if that logs nothing."""
    return {MLFLOW_PARENT_RUN_ID: run.run_id} if run.run_id else {}


def resume_run(client: MlflowClient, uri: str, run_id: str) -> None:
    """Set the status of an existing run to RUNNING again.

    Raises:
        InputError: there is no such run in the store.
    """
    check_run(client, uri, run_id)
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))


def check_run(client: MlflowClient, uri: str, run_id: str) -> None:
    """Check that a run exists.

    Raises:
        InputError: there is no such run in the store.
    """
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        raise InputError(
            f"{uri}: there is no run {run_id!r} to resume ({error}). Name the database that the run was "
            "started with, or start a new run"
        ) from error


def _log_environment(run: MlflowRun, parameters: Mapping[str, str]) -> None:
    found = environment()
    seeds = {key: value for key, value in parameters.items() if key.split(".")[-1] == "seed"}
    if seeds:
        found["seed"] = seeds.get("seed", next(iter(seeds.values())))
    run.log_dict(found, "environment.json")
    tags = {f"environment.{key}": value for key, value in found.items()}
    if "git_commit" in found:
        tags[MLFLOW_GIT_COMMIT] = found["git_commit"]
    run.set_tags(tags)


def _rank() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))
