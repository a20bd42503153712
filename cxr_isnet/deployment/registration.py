"""From a finished run to a registered version: its evidence, the gate's decision, the aliases, and the way back."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun
from mlflow.entities import RunStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from cxr_isnet.deployment.gate import Decision, decide, lines_of
from cxr_isnet.deployment.gate_config import GateConfig
from cxr_isnet.deployment.gate_rules import Evidence
from cxr_isnet.engine import RunDirectory
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import read_predictions
from cxr_isnet.manifests import file_digest
from cxr_isnet.tracking import (
    CHAMPION,
    METHOD,
    TrackingConfig,
    add_version,
    check_method,
    open_store,
    reached,
    registry_lock,
    resolve_uri,
    version_with_alias,
)

MODEL_DIGEST_TAG = "model_sha256"
"""SHA-256 of a checkpoint: of the run that trained it, and of the runs that evaluated and audited it."""
SEEN_TAG, EXTERNAL_TAG = "digests.seen", "digests.external"
"""SHA-256 of every table of training and validation, and of every external one, separated by spaces."""
EXTERNAL = "external/clean/predictions.csv"
VALIDATION = "validation/clean/predictions.csv"
THUMBNAIL = "external/thumbnail/predictions.csv"
EVALUATED = "clean/predictions.csv"
AUDIT = "audit.json"
METRICS = "metrics.json"
REPLACED_TAG = "replaced_champion"
TAGS = "gate."


@dataclass(frozen=True)
class TrainingOf:
    """The training of a model in a store, as runs that evaluate and audit the model refer to it.

    Attributes:
        tags: The checkpoint's SHA-256; and the training's run as parent, under which MLflow shows them, where it is
            known.
        model_id: Of the logged model; None where there is none.
    """

    tags: dict[str, object]
    model_id: str | None = None


def training_of(tracking: TrackingConfig, model: str) -> TrainingOf:
    """The training that made a checkpoint.

    Args:
        tracking: Where runs are logged.
        model: The file; of anything else nothing is known.

    Raises:
        InputError: The store does not answer.
    """
    if not Path(model).is_file():
        return TrainingOf({})
    sha256 = file_digest(model)
    tags: dict[str, object] = {MODEL_DIGEST_TAG: sha256}
    if not tracking.enabled:
        return TrainingOf(tags)
    uri = resolve_uri(tracking.uri)
    with reached(uri):
        client = open_store(uri)
        trained = [run for run in _runs_of_checkpoint(client, sha256) if SEEN_TAG in run.data.tags]
    if not trained:
        return TrainingOf(tags)
    outputs = trained[0].outputs.model_outputs if trained[0].outputs else []
    tags |= {MLFLOW_PARENT_RUN_ID: trained[0].info.run_id}
    return TrainingOf(tags, outputs[-1].model_id if outputs else None)


@dataclass(frozen=True)
class Registration:
    """What was decided, and done.

    Attributes:
        name: Registered name.
        version: Of the model; None of a dry run of a model without one.
        decision: Of the gate.
        promoted: The version is `@champion` now.
    """

    name: str
    version: int | None
    decision: Decision
    promoted: bool


def read_evidence(client: MlflowClient, run_id: str, name: str) -> Evidence:
    """What a store knows of the model of a run: the run's own files, and of later runs that evaluated and audited it.

    Args:
        client: Of the store.
        run_id: The run that trained the model.
        name: What the model is called in reasons.

    Raises:
        InputError: There is no such run.
    """
    run = _run(client, run_id)
    with tempfile.TemporaryDirectory() as folder:
        files = _Files(client, Path(folder))
        external = [table for table in [files.table(run, EXTERNAL)] if table is not None]
        digests = _tag_set(run, EXTERNAL_TAG)
        audit_verdict = ""
        for later in _runs_of_model(client, run):
            found = files.table(later, EVALUATED)
            if found is not None:
                external.append(found)
                digests |= _tag_set(later, EXTERNAL_TAG)
            audit = files.json(later.info.run_id, AUDIT)
            audit_verdict = audit_verdict or str(audit.get("verdict", ""))
        metrics = files.json(run_id, METRICS)
        seen = _tag_set(run, SEEN_TAG)
        return Evidence(
            name=name,
            external=_joined(external),
            validation=files.table(run, VALIDATION),
            thumbnail=files.table(run, THUMBNAIL),
            temperature=metrics.get("calibration", {}).get("temperature"),
            audit_verdict=audit_verdict,
            seen_digests=seen or None,
            external_digests=digests,
        )


def register(client: MlflowClient, run_id: str, name: str, gate: GateConfig, *, dry_run: bool = False) -> Registration:
    """Registers a run's model as `@candidate`, and makes it `@champion` if the gate holds.

    The registered name is locked from the reading of the champion to the change of the alias.

    Args:
        client: Of the store.
        run_id: A finished run that has logged a model.
        name: Registered name; created when it is missing.
        gate: The rules.
        dry_run: Decides, and changes nothing in the store.

    Raises:
        InputError: There is no such run, it is not finished or has no model; the name stands for another method.
    """
    run = _run(client, run_id)
    if run.info.status != RunStatus.to_string(RunStatus.FINISHED):
        raise InputError(f"run {run_id} is {run.info.status}: register a finished one")
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        raise InputError(f"run {run_id} has logged no model: give the run of a training")
    model_id, method = outputs[-1].model_id, run.data.tags.get(METHOD, "")
    if dry_run:
        check_method(client, name, method)
        return Registration(name, None, _decide(client, run_id, name, f"run {run_id}", gate), promoted=False)
    with registry_lock(client, name):
        tags = {**client.get_logged_model(model_id).tags, METHOD: method, "seed": run.data.tags.get("seed", "")}
        shown = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
        version = add_version(client, name, model_id, shown)
        decision = _decide(client, run_id, name, f"{name} version {version}", gate)
        promoted = decision.passed and _promote(client, name, version)
        _write(client, run_id, name, version, decision, tags.get(MLFLOW_RUN_NOTE, ""))
    return Registration(name, version, decision, promoted)


def rollback(client: MlflowClient, name: str) -> tuple[int, int | None]:
    """Gives `@champion` back to the version that the present one replaced.

    Args:
        client: Of the store.
        name: Registered name.

    Returns:
        The version that was the champion, and the one that is it now; None where no version is.

    Raises:
        InputError: The name has no champion, or the version before was deleted.
    """
    with registry_lock(client, name):
        champion = version_with_alias(client, name, CHAMPION)
        if champion is None:
            raise InputError(f"registered name {name!r} has no version with the alias '{CHAMPION}': nothing to undo")
        before = champion.tags.get(REPLACED_TAG, "")
        if not before:
            client.delete_registered_model_alias(name, CHAMPION)
            return int(champion.version), None
        try:
            client.get_model_version(name, before)
        except MlflowException as error:
            raise InputError(
                f"version {before} of {name!r}, which version {champion.version} replaced, was deleted. Set the alias "
                f"'{CHAMPION}' to another version in MLflow"
            ) from error
        client.set_registered_model_alias(name, CHAMPION, before)
        return int(champion.version), int(before)


def _decide(client: MlflowClient, run_id: str, name: str, shown: str, gate: GateConfig) -> Decision:
    version = version_with_alias(client, name, CHAMPION)
    champion = None
    if version is not None and version.run_id != run_id:
        champion = read_evidence(client, str(version.run_id), f"{name} version {version.version}")
    return decide(read_evidence(client, run_id, shown), champion, gate)


def _promote(client: MlflowClient, name: str, version: int) -> bool:
    before: ModelVersion | None = version_with_alias(client, name, CHAMPION)
    if before is None or int(before.version) != version:
        client.set_model_version_tag(name, str(version), REPLACED_TAG, "" if before is None else str(before.version))
        client.set_registered_model_alias(name, CHAMPION, str(version))
    return True


def _write(client: MlflowClient, run_id: str, name: str, version: int, decision: Decision, model: str) -> None:
    """The decision behind what the model is, as description of the version; as its tags; as JSON among the run's
    artifacts."""
    description = "\n\n".join(filter(None, [model, "\n".join(lines_of(decision))]))
    client.update_model_version(name, str(version), description)
    tags = {TAGS + "passed": str(decision.passed).lower()}
    tags |= {
        TAGS + c.rule.replace(" ", "_"): f"{'passed' if c.passed else 'failed'}: {c.reason}" for c in decision.checks
    }
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version), key, value)
    client.log_dict(run_id, {"name": name, "version": version, **decision.to_dict()}, f"gate/{name}-{version}.json")


def _run(client: MlflowClient, run_id: str) -> StoredRun:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise InputError(f"there is no run {run_id!r} in the store ({error.message})") from error


def _runs_of_model(client: MlflowClient, run: StoredRun) -> list[StoredRun]:
    """Other finished runs that say they are of the same checkpoint, the newest first."""
    sha256 = run.data.tags.get(MODEL_DIGEST_TAG)
    found = _runs_of_checkpoint(client, sha256) if sha256 else []
    return [other for other in found if other.info.run_id != run.info.run_id]


def _runs_of_checkpoint(client: MlflowClient, sha256: str) -> list[StoredRun]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(
        client.search_runs(
            experiments,
            f"tags.{MODEL_DIGEST_TAG} = '{sha256}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    )


def _tag_set(run: StoredRun, tag: str) -> frozenset[str]:
    return frozenset(run.data.tags.get(tag, "").split())


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame | None:
    """All rows; of an image that several tables list, the first."""
    if not tables:
        return None
    return pd.concat(tables, ignore_index=True).drop_duplicates("path").reset_index(drop=True)


class _Files:
    """Files among the artifacts of runs."""

    def __init__(self, client: MlflowClient, folder: Path) -> None:
        self._client, self._folder = client, folder

    def table(self, run: StoredRun, name: str) -> pd.DataFrame | None:
        """A predictions table: logged, or in the run's output folder, where it stays unless `tracking.tables` is on."""
        file = self._fetched(run.info.run_id, name) or _in_output(run, name)
        return None if file is None else read_predictions(file)

    def json(self, run_id: str, name: str) -> dict[str, Any]:
        file = self._fetched(run_id, name)
        content = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}

    def _fetched(self, run_id: str, name: str) -> Path | None:
        folder = name.rpartition("/")[0]
        if name not in {entry.path for entry in self._client.list_artifacts(run_id, folder or None)}:
            return None
        place = self._folder / run_id
        place.mkdir(exist_ok=True)
        return Path(self._client.download_artifacts(run_id, name, str(place)))


def _in_output(run: StoredRun, name: str) -> Path | None:
    """A file in the output folder that a run says it wrote, if the folder is here and still that run's."""
    folder = Path(run.data.params.get("output", ""))
    own = RunDirectory(folder).run_id() == run.info.run_id
    return folder / name if own and (folder / name).is_file() else None
