"""What comes after the last epoch: decision, evaluation, self-check, files, MLflow, registration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from cxr_isnet.deployment import MODEL_DIGEST_TAG, log_classifier
from cxr_isnet.engine import RunDirectory
from cxr_isnet.evaluation import Settings, Study, check_predictions, loss_curves_figure, markdown_text
from cxr_isnet.files import write_json
from cxr_isnet.inference import (
    Classifier,
    conditions,
    evaluate_classifier,
    flat_metrics,
    predict_manifest,
    results_table,
    site_results,
)
from cxr_isnet.manifests import file_digest
from cxr_isnet.tracking import LoggedModel, Run
from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.controls import fitted_controls
from cxr_isnet.training.decision import Calibration, fit_calibration, fit_feature_reference
from cxr_isnet.training.partitions import Partitions
from cxr_isnet.training.self_check import SelfCheck, self_check

_log = logging.getLogger(__name__)


def finish(
    config: TrainConfig,
    partitions: Partitions,
    directory: RunDirectory,
    run: Run,
    history: list[dict[str, Any]],
    seconds: float,
    device: torch.device,
) -> tuple[dict[str, Any], list[LoggedModel]]:
    """Makes a trained network a classifier that can be used: fits its decision, evaluates, logs and registers it.

    Args:
        config: The training.
        partitions: Its images.
        directory: Has the best network; gets the evaluation, and `metrics.json` when all else is done.
        run: Gets what the directory gets.
        history: Loss terms of the epochs.
        seconds: That the training took.
        device: Where to compute.

    Returns:
        What `metrics.json` holds; and the model as it is logged, which comes later where the store fails.
    """
    classifier = Classifier.load(directory.best_file, device)
    tables = {
        condition.name: predict_manifest(
            classifier, partitions.validation, condition, model_uri=run.run_id, store=partitions.store
        )
        for condition in conditions(config.data.mark)
    }
    checked = {name: check_predictions(table, classifier.classes) for name, table in tables.items()}
    calibration = fit_calibration(classifier, checked["clean"])
    fit_feature_reference(classifier, partitions.training, partitions.validation, partitions.store)
    classifier.save(directory.best_file)
    settings = Settings(config.resamples, config.seed)
    controls = fitted_controls(config.data, partitions)
    evaluated: dict[str, dict[str, Study]] = {}
    for part, frame in (("validation", partitions.validation), ("external", partitions.external)):
        if frame is not None:
            evaluated[part] = evaluate_classifier(
                classifier,
                frame,
                directory.path / part,
                conditions(config.data.mark),
                settings,
                validation=checked["clean"],
                predictions=tables if part == "validation" else None,
                controls=controls,
                model_uri=run.run_id,
                store=partitions.store,
            )
    found = self_check(classifier, partitions.validation, checked, config.data.mark, settings, partitions.store)
    frame = pd.DataFrame(history)
    metrics = _metrics(config, classifier, frame, seconds, calibration, found, evaluated)
    description = _description(config, classifier, partitions, metrics, evaluated)
    run.set_tags({"mlflow.note.content": description})
    logged = _log_model(config, partitions, run, classifier, metrics, evaluated, description)
    _log_results(directory, run, evaluated, frame, calibration, found)
    write_json(directory.metrics_file, metrics)  # a directory that holds it is finished: after all else
    run.log_artifact(directory.metrics_file)
    for part, studies in evaluated.items():
        _log.info("\n%s, %s\n%s", classifier.method, part, results_table(studies))
    if found is not None:
        _log.info("\n%s", "\n".join(found.sentences))
    return metrics, logged


def _metrics(
    config: TrainConfig,
    classifier: Classifier,
    history: pd.DataFrame,
    seconds: float,
    calibration: Calibration,
    found: SelfCheck | None,
    evaluated: Mapping[str, Mapping[str, Study]],
) -> dict[str, Any]:
    losses = history[history["split"] == "validation"]
    return {
        "method": classifier.method,
        "network": classifier.config.name,
        "seed": config.seed,
        "epochs": int(history["epoch"].max()),
        "best_epoch": int(losses["epoch"].to_numpy()[losses["loss"].to_numpy().argmin()]),
        "seconds": round(seconds, 1),
        "calibration": calibration.to_dict(),
        "self_check": None if found is None else found.to_dict(),
        **{
            part: {
                condition: {site: r.to_dict() for site, r in site_results(study).items()}
                for condition, study in studies.items()
            }
            for part, studies in evaluated.items()
        },
    }


def _log_model(
    config: TrainConfig,
    partitions: Partitions,
    run: Run,
    classifier: Classifier,
    metrics: Mapping[str, Any],
    evaluated: Mapping[str, Mapping[str, Study]],
    description: str,
) -> list[LoggedModel]:
    logged: list[LoggedModel] = []

    def log_and_register() -> None:
        model = log_classifier(
            run,
            classifier,
            list(partitions.validation["image"][:2]),
            register=config.register,
            description=description,
            metadata={
                "method": classifier.method,
                "network": classifier.config.name,
                "seed": config.seed,
                "temperature": classifier.temperature,
                "threshold": classifier.threshold,
            },
        )
        if model is not None:
            logged.append(model)
            if model.version is not None:
                _log.info("registered as models:/%s/%d", model.name, model.version)

    run.send("the model", log_and_register)
    for part, studies in evaluated.items():
        run.log_metrics(
            flat_metrics(studies, part),
            int(metrics["epochs"]),
            model_id=logged[0].model_id if logged else None,
            dataset=part,
        )
    return logged


def _log_results(
    directory: RunDirectory,
    run: Run,
    evaluated: Mapping[str, Mapping[str, Study]],
    history: pd.DataFrame,
    calibration: Calibration,
    found: SelfCheck | None,
) -> None:
    run.set_tags({MODEL_DIGEST_TAG: file_digest(directory.best_file)})
    numbers = {f"validation/{name}": value for name, value in calibration.flat().items()}
    if found is not None:
        numbers |= {f"validation/self_check/{name}": value for name, value in found.flat().items()}
    run.log_metrics(numbers, int(history["epoch"].max()))
    run.log_figure(loss_curves_figure(history), "loss_curves.png")
    for file in (directory.config_file, directory.history_file):
        run.log_artifact(file)
    for part in evaluated:
        for folder in sorted(path for path in (directory.path / part).iterdir() if path.is_dir()):
            run.log_artifact(folder, part)


def _description(
    config: TrainConfig,
    classifier: Classifier,
    partitions: Partitions,
    metrics: Mapping[str, Any],
    evaluated: Mapping[str, Mapping[str, Study]],
) -> str:
    """What a run has made, and a registered version is, in Markdown."""
    lines = [
        f"{' or '.join(classifier.classes)}; method {classifier.method}, network {classifier.config.name}, "
        f"seed {config.seed}, epoch {metrics['best_epoch']} of {metrics['epochs']}.",
        f"Trained on {', '.join(sorted(set(partitions.training['site'])))}: {len(partitions.training)} images.",
    ]
    for part, studies in evaluated.items():
        aucs = [f"{site} {r.metrics['auc'].estimate:.3f}" for site, r in site_results(studies["clean"]).items()]
        lines.append(f"AUC, {part}: {', '.join(aucs)}.")
    if metrics["calibration"]["note"]:
        lines.append(str(metrics["calibration"]["note"]))
    if metrics["self_check"] is not None:
        lines.append(str(metrics["self_check"]["sentences"][0]))
    return "\n\n".join(map(markdown_text, lines))
