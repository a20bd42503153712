"""`cxr-isnet evaluate-model`: a trained classifier predicts the hospitals of manifests, and is evaluated there."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from cxr_isnet.commands.evaluate import EvaluationConfig, read_audit
from cxr_isnet.config import as_plain
from cxr_isnet.data import ImageStore, MarkConfig, MemoryStore, check_files
from cxr_isnet.deployment import EXTERNAL_TAG, training_of
from cxr_isnet.engine import Device, RunDirectory
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import read_predictions
from cxr_isnet.files import new_folder, output_folder
from cxr_isnet.inference import (
    Classifier,
    FittedControls,
    PreparedImages,
    check_annotations,
    check_relevance,
    conditions,
    evaluate_classifier,
    flat_metrics,
    read_boxes,
    read_zone_scores,
    results_table,
)
from cxr_isnet.manifests import digest, read_manifests
from cxr_isnet.tracking import TrackingConfig, start_run
from cxr_isnet.training import fitted_controls, read_experiment_config, read_partitions

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluateModelConfig(EvaluationConfig):
    """Evaluation of a trained classifier: `predict`, then `evaluate`, with heatmaps in the report.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder.
        manifest: Manifests of the hospitals, tables or column mappings.
        output: Folder for the results, a folder in it for each condition (`clean`, and with marks `biased` and
            `swapped`); must be empty.
        validation: Table of the model's predictions on in-domain validation, which sets threshold and temperature; null
            takes those that the checkpoint is shipped with.
        audit: `audit.json` of the shortcut audit, for the report.
        training: Manifests that the classifier was trained on, for controls: what classifiers that see no lungs, and
            have learned from the same patients, reach on these hospitals. Empty takes those of the training in whose
            folder the checkpoint lies.
        mark: Evaluates with planted marks too; null for the images as they are.
        boxes: Table of boxes that experts drew around findings (`image`, `x`, `y`, `width`, `height`): does the
            relevance within the lungs lie on them? Null for none.
        zone_scores: Table of scores of the six zones of the lungs (`image`, `A` to `F`, as the Brixia score has them):
            does the relevance go with them? Null for none.
        occluded: Images with a lung mask on which is tried whether hiding what is relevant changes the output, and
            whether the lungs of other patients hold less of it; 0 for none.
        device: Where the model predicts.
        trust: Allows the checkpoint to name a method or network that is defined outside cxr-isnet, which is code.
        tracking: MLflow.
    """

    model: str
    manifest: list[str]
    output: str
    validation: str | None = None
    audit: str | None = None
    training: list[str] = field(default_factory=list)
    mark: MarkConfig | None = None
    boxes: str | None = None
    zone_scores: str | None = None
    occluded: int = 32
    device: Device = Device.AUTO
    trust: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or column mapping")
        if self.sensitivity is not None and self.validation is None:
            raise InputError(f"sensitivity is {self.sensitivity}: it needs a validation table")
        if self.occluded < 0:
            raise InputError(f"occluded is {self.occluded}: give a number of images, or 0 for none")


def evaluate_model(config: EvaluateModelConfig) -> str:
    """Evaluates a classifier on the manifests' sites; returns the results as a text table.

    Raises:
        InputError: A setting, a table or a file cannot be used.
    """
    output = output_folder(config.output)
    classifier = Classifier.load(config.model, config.device.found(), trust=config.trust)
    frame = read_manifests(config.manifest, classes=classifier.classes)
    store = MemoryStore(classifier.image)
    check_files(frame, store.pair)
    validation = None
    if config.validation is not None:
        validation = read_predictions(config.validation, classifier.classes)
    audit = read_audit(config.audit)
    boxes = read_boxes(config.boxes) if config.boxes else None
    zones = read_zone_scores(config.zone_scores) if config.zone_scores else None
    for marks in filter(None, (boxes, zones)):
        check_annotations(marks, frame, classifier.classes)
    controls = _controls(config, classifier, store)
    training = training_of(config.tracking, config.model)
    tags = {
        "method": classifier.method,
        **training.tags,
        EXTERNAL_TAG: " ".join(map(digest, config.manifest)),
    }
    name = f"{classifier.method} on {', '.join(sorted(set(frame['site'])))} ({output.name})"
    with start_run(config.tracking, kind="evaluation", name=name, parameters=as_plain(config), tags=tags) as run:
        read = digest(*config.manifest)
        run.log_dataset(frame, "external", "evaluation", read, source=", ".join(config.manifest))
        with new_folder(config.output) as folder:
            studies = evaluate_classifier(
                classifier,
                frame,
                folder,
                conditions(config.mark),
                config.settings(),
                validation=validation,
                audit=audit,
                controls=controls,
                model_uri=config.model,
                store=store,
            )
            explained = classifier.explainer().explain is not None
            relevance = check_relevance(
                classifier, frame, hidden=config.occluded if explained else 0, boxes=boxes, zones=zones,
                resamples=config.resamples, seed=config.seed, store=store,
            )  # fmt: skip
            relevance.write(folder)
            RunDirectory(folder).note_run(run.run_id, run.uri)
        found = flat_metrics(studies, "external") | relevance.flat("external")
        run.log_metrics(found, 0, model_id=training.model_id, dataset="external")
        for part in sorted(path for path in output.iterdir() if path.is_dir()):
            run.log_artifact(part)
    return "\n\n".join(filter(None, [results_table(studies), relevance.text()]))


def _controls(config: EvaluateModelConfig, classifier: Classifier, store: ImageStore) -> FittedControls | None:
    """Controls that have learned from the classifier's training patients; None where these are not at hand."""
    images = PreparedImages(classifier.classes, classifier.image, store)
    if config.training:
        training = read_manifests(config.training, classes=classifier.classes)
        held_out = training["split"].isin(("val", "test")) if "split" in training.columns else None
        return FittedControls.on(images, training if held_out is None else training[~held_out])
    file = RunDirectory(Path(config.model).parent).config_file
    if not file.is_file():
        return None
    try:
        experiment = read_experiment_config(file)
        partitions = read_partitions(replace(experiment.data, external=[]), experiment.seed, store)
        return fitted_controls(experiment.data, partitions, images)
    except InputError as error:
        _log.warning("no controls: %s", error)
        return None
