"""`cxr-isnet segment train | crossvalidate | evaluate | predict`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd
import yaml

from cxr_isnet.config import as_plain
from cxr_isnet.data import site_names
from cxr_isnet.engine import Device, distributed_context
from cxr_isnet.errors import InputError
from cxr_isnet.files import exclusive, new_folder, output_folder, remove_partial_files
from cxr_isnet.manifests import digest, read_manifests
from cxr_isnet.networks import Heart
from cxr_isnet.segmentation import (
    QualityLimits,
    Segmenter,
    SegmentTrainConfig,
    complete_masks,
    evaluate_overlaps,
    evaluate_segmenter,
    flat_overlaps,
    format_overlaps,
    holds_other_files,
    patient_folds,
    read_pairs,
    read_splits,
    train_segmenter,
    write_overlaps,
)
from cxr_isnet.tracking import TrackingConfig, start_run

__all__ = [
    "SegmentCrossvalidateConfig",
    "SegmentEvaluateConfig",
    "SegmentPredictConfig",
    "SegmentTrainConfig",
    "segment_crossvalidate",
    "segment_evaluate",
    "segment_predict",
    "segment_train",
]


@dataclass(frozen=True)
class SegmentCrossvalidateConfig:
    """Patient-level cross-validation: a lung segmenter per fold, evaluated on the patients that it has not seen.

    Attributes:
        train: The training of each fold; its output gets a folder per fold. No external manifests.
        folds: Number of folds.
    """

    train: SegmentTrainConfig
    folds: int = 3

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise InputError(f"folds is {self.folds}; give at least 2")
        if self.train.external:
            raise InputError("train.external has no use in a cross-validation: leave it out, or use `segment train`")


@dataclass(frozen=True)
class SegmentEvaluateConfig:
    """Evaluation of a trained segmenter on given masks.

    Attributes:
        model: `best.pt` of an output folder of `segment train`.
        manifest: Manifests (tables or column mappings); the segmenter is evaluated on their rows with a given mask.
        output: Folder for the results; must be empty.
        device: Where.
        resamples: Bootstrap resamples of each interval.
        seed: Of the bootstrap.
        heart: Whether the masks include the heart, of a segmenter that was trained on both kinds.
        limits: Of the quality flags.
        tracking: MLflow.
    """

    model: str
    manifest: list[str]
    output: str
    device: Device = Device.AUTO
    resamples: int = 2000
    seed: int = 0
    heart: Heart | None = None
    limits: QualityLimits = field(default_factory=QualityLimits)
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig(experiment="lung-masks"))

    def __post_init__(self) -> None:
        if not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or column mapping")
        if self.resamples < 1 or self.seed < 0:
            raise InputError(f"resamples is {self.resamples} and seed {self.seed}: at least 1 and 0 are needed")


@dataclass(frozen=True)
class SegmentPredictConfig:
    """Prediction of the lung masks that manifests lack.

    Attributes:
        model: `best.pt` of an output folder of `segment train`; or, where that package is installed,
            `torchxrayvision:chestx_det` or `cxas:UNet_ResNet50_default`.
        manifest: Manifests (tables or column mappings).
        output: Folder for `manifest.csv`, `quality.csv`, `flagged.csv`, `masks/`, `overlays/` and `accepted.png`. A run
            that was interrupted is resumed in it.
        overwrite: Predicts also where a mask is given.
        device: Where.
        batch_size: Images at a time.
        workers: Reading processes; 0 reads in the predicting process.
        heart: Whether the masks include the heart, of a segmenter that was trained on both kinds; null for those that
            leave it out.
        limits: Of the quality flags.
    """

    model: str
    manifest: list[str]
    output: str
    overwrite: bool = False
    device: Device = Device.AUTO
    batch_size: int = 16
    workers: int = 0
    heart: Heart | None = None
    limits: QualityLimits = field(default_factory=QualityLimits)

    def __post_init__(self) -> None:
        if not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or column mapping")
        if self.batch_size < 1 or self.workers < 0:
            raise InputError(f"batch_size is {self.batch_size} and workers {self.workers}: at least 1 and 0 are needed")


def segment_train(config: SegmentTrainConfig) -> str:
    """Trains a segmenter and evaluates it on patients and sites that it has not seen; returns the results as text."""
    splits = read_splits(
        config.training, config.external, config.validation_fraction, config.seed, config.heart_included
    )
    evaluations = train_segmenter(config, splits)
    return "\n\n".join(f"{name}\n{format_overlaps(test.sites)}" for name, test in evaluations.items())


def segment_crossvalidate(config: SegmentCrossvalidateConfig) -> str:
    """Evaluates on every pair a segmenter that has not seen its patient; returns the results as text.

    Files in the output folder: `fold_1_of_3` ... as of a training, `overlaps.csv` and `overlaps.json` of all.
    """
    train = config.train
    output = output_folder(train.output, may_hold=train.resume)
    frame = read_pairs(train.training, train.heart_included)
    tables = []
    folds = patient_folds(frame, config.folds, train.validation_fraction, train.seed)
    for number, splits in enumerate(folds, start=1):
        folder = output / f"fold_{number}_of_{config.folds}"
        begun = folder.is_dir() and any(folder.iterdir())
        evaluations = train_segmenter(replace(train, output=str(folder), resume=begun), splits)
        tables += [test.table for test in evaluations.values()]
    if not tables:
        return ""
    table = pd.concat(tables, ignore_index=True)
    sites = evaluate_overlaps(table, resamples=train.resamples, seed=train.seed)
    write_overlaps(output, table, sites, resamples=train.resamples)
    with start_run(
        train.tracking,
        kind="crossvalidation",
        name=f"segmenter, {config.folds} folds, seed {train.seed} ({output.name})",
        parameters=as_plain(config),
        tags={"method": "segmenter"},
    ) as run:
        run.log_metrics(flat_overlaps(sites, "crossvalidation"), 0)
        run.log_artifact(output / "overlaps.json")
    return format_overlaps(sites)


def segment_evaluate(config: SegmentEvaluateConfig) -> str:
    """Evaluates a segmenter on the manifests' given masks, to files and to MLflow; returns the results as text."""
    output = output_folder(config.output)
    pairs = read_pairs(config.manifest)
    with distributed_context(config.device) as context:
        segmenter = Segmenter.load(config.model, context.device).with_heart(config.heart)
        with start_run(
            config.tracking,
            kind="evaluation",
            name=f"segmenter on {', '.join(site_names(pairs))} ({output.name})",
            parameters=as_plain(config),
            tags={"method": "segmenter"},
        ) as run:
            source = ", ".join(config.manifest)
            run.log_dataset(pairs, "external", "evaluation", digest(*config.manifest), source=source)
            with new_folder(config.output) as folder:
                evaluation = evaluate_segmenter(
                    segmenter, pairs, config.limits, folder, resamples=config.resamples, seed=config.seed
                )
            run.log_metrics(flat_overlaps(evaluation.sites, "evaluation"), 0)
            run.log_artifact(output / "overlaps.json")
    return format_overlaps(evaluation.sites)


def segment_predict(config: SegmentPredictConfig) -> str:
    """Completes the masks of manifests and lists the flagged; returns the counts, and how to train with the masks."""
    output = output_folder(config.output, may_hold=True)
    if holds_other_files(output):
        raise InputError(f"output '{output}' holds other files than predicted masks: name another folder")
    with distributed_context(config.device) as context:
        segmenter = Segmenter.load(config.model, context.device).with_heart(config.heart)
        frame = read_manifests(config.manifest)
        output.mkdir(parents=True, exist_ok=True)
        with exclusive(output):
            remove_partial_files(output)
            counts = complete_masks(
                segmenter,
                frame,
                output,
                config.limits,
                overwrite=config.overwrite,
                batch_size=config.batch_size,
                workers=config.workers,
            )
    manifest = str(output / "manifest.csv")
    summary = (
        f"{manifest}: {counts.images} images, {counts.given} with a given mask, {counts.predicted} with "
        f"a predicted one, {counts.flagged + counts.unreadable} without: {counts.flagged} flagged, "
        f"{counts.unreadable} unreadable (flagged.csv, overlays/)"
    )
    return f"{summary}\n\n{_next_step(config.manifest, manifest, masks=counts.given + counts.predicted)}"


def _next_step(completed: list[str], manifest: str, *, masks: int) -> str:
    """What to write into a training config so that the completed manifest is used, not the one without masks."""
    if not masks:
        return "No image has a mask: method isnet cannot be trained on this manifest. See flagged.csv for the reasons."
    setting = yaml.safe_dump({"data": {"training": [manifest]}}, default_flow_style=None, width=10**6)
    return (
        f"To train with these masks, name this manifest in data.training in place of {', '.join(completed)}; other "
        f"hospitals' manifests stay beside it:\n\n{setting}".rstrip()
    )
