"""Training of a lung segmenter: its config, its epochs, its evaluation, its MLflow run."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from cxr_isnet.config import as_plain
from cxr_isnet.data import (
    AugmentConfig,
    ImageConfig,
    check_files,
    loading_processes,
    make_dataset,
    make_loader,
    make_store,
    site_names,
)
from cxr_isnet.engine import (
    CheckpointedRun,
    Device,
    DistributedContext,
    OptimizerConfig,
    Precision,
    RunDirectory,
    Trainer,
    TrainerSettings,
    denormals_as_zero,
    distributed_context,
)
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import loss_curves_figure
from cxr_isnet.files import write_json
from cxr_isnet.manifests import digest
from cxr_isnet.networks import Heart, SegmenterConfig, build_segmenter
from cxr_isnet.segmentation.mask_evaluation import MaskEvaluation, evaluate_segmenter, flat_overlaps
from cxr_isnet.segmentation.overlap import LungOverlap
from cxr_isnet.segmentation.pairs import PairSplits
from cxr_isnet.segmentation.quality import QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter
from cxr_isnet.tracking import Run, TrackingConfig, check_store, start_run

_log = logging.getLogger(__name__)

WIDE = AugmentConfig(
    rotate_degrees=15.0,
    translate=0.08,
    scale=0.25,
    flip=True,
    gamma=(0.5, 2.0),
    contrast=0.3,
    brightness=0.1,
    noise=0.02,
)
"""Random changes wide enough for another hospital's exposure and field; mirrored, as lungs have no side."""


@dataclass(frozen=True)
class SegmentTrainConfig:
    """Training a lung segmenter.

    Attributes:
        training: Manifests (tables or column mappings); their rows with a given mask are the training and validation
            pairs.
        output: Folder for checkpoints, tables and pictures; must be empty unless `resume`.
        external: Manifests of sites to evaluate the segmenter on, which training must not see.
        heart_included: Those of the manifests whose masks include the heart; the others leave it out. The segmenter of
            both kinds has an output for each, and `segment predict --heart` says which is used.
        image: Preparation of an image file for the network.
        augment: Random changes in training.
        network: The U-Net.
        optimizer: Optimiser and schedule.
        epochs: Most epochs.
        patience: Ends after so many epochs without a lower validation loss; null for never.
        batch_size: Images per step, over all processes.
        validation_fraction: Share of patients held out where the manifests do not say who belongs to which split.
        workers: Loading processes; 0 loads in the training process; null for none on a CPU, whose cores the network
            needs, and on a GPU for one for each core, at most 8.
        cache: Keeps the prepared images in memory.
        seed: Of everything random.
        precision: Arithmetic of the network.
        device: Where.
        resume: Resumes the unfinished training in `output`.
        resamples: Bootstrap resamples of each interval.
        limits: Of the quality flags.
        tracking: MLflow.
    """

    training: list[str]
    output: str
    external: list[str] = field(default_factory=list)
    heart_included: list[str] = field(default_factory=list)
    image: ImageConfig = field(default_factory=lambda: ImageConfig(size=128))
    augment: AugmentConfig = WIDE
    network: SegmenterConfig = field(default_factory=SegmenterConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=3e-3))
    epochs: int = 40
    patience: int | None = None
    batch_size: int = 8
    validation_fraction: float = 0.15
    workers: int | None = None
    cache: bool = True
    seed: int = 0
    precision: Precision = Precision.FP32
    device: Device = Device.AUTO
    resume: bool = False
    resamples: int = 2000
    limits: QualityLimits = field(default_factory=QualityLimits)
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig(experiment="lung-masks"))

    def __post_init__(self) -> None:
        if not self.training:
            raise InputError("training is an empty list: name at least one table or column mapping")
        for name in ("epochs", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience is {self.patience}; it must be at least 1, or null for never")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction is {self.validation_fraction}; it must lie between 0 and 1")
        if self.seed < 0 or (self.workers or 0) < 0:
            raise InputError(f"seed is {self.seed} and workers {self.workers}; both must be 0 or more")
        if self.image.size % self.network.stride:
            raise InputError(
                f"image.size is {self.image.size}; a network of {len(self.network.channels)} levels needs a multiple "
                f"of {self.network.stride}"
            )
        foreign = sorted(set(self.heart_included) - {*self.training, *self.external})
        if foreign:
            raise InputError(f"heart_included names {foreign}, which is neither in training nor in external")
        shared = sorted(set(self.training) & set(self.external))
        if shared:
            raise InputError(f"{shared} are in both training and external: an external site must be unseen")


def train_segmenter(config: SegmentTrainConfig, splits: PairSplits) -> dict[str, MaskEvaluation]:
    """Trains a segmenter, or resumes its training; then evaluates that of the epoch of the lowest validation loss.

    Args:
        config: The run; its manifests have been read into `splits`.
        splits: The pairs.

    Returns:
        The evaluation on each test; none in processes other than the first.

    Raises:
        InputError: A setting, a file or the output folder cannot be used.
        DivergedError: A loss became NaN or infinite.
    """
    with RunDirectory(Path(config.output)).held():
        return _train_held(config, splits)


def _train_held(config: SegmentTrainConfig, splits: PairSplits) -> dict[str, MaskEvaluation]:
    """As `train_segmenter`, while no other process trains into the output folder."""
    if config.heart_included:
        kinds = set(splits.training["heart"])
        unseen = sorted({str(heart) for test in splits.tests.values() for heart in test["heart"]} - kinds)
        if unseen:
            raise InputError(f"external masks have the heart {unseen}, no training mask has: leave that manifest out")
        config = replace(config, network=replace(config.network, hearts=tuple(h for h in Heart if h in kinds)))
    settings = as_plain(config)
    directory = RunDirectory.open(config.output, settings, config.training, resume=config.resume)
    check_store(config.tracking, directory.run_id())
    torch.manual_seed(config.seed)
    objective = LungOverlap(build_segmenter(config.network), _hearts_of_sites(config.network, splits.training))
    with denormals_as_zero(), distributed_context(config.device) as context:
        training, validation = pair_loaders(config, splits, context)
        tags = {"method": "segmenter", "seed": config.seed}
        name = f"segmenter seed {config.seed} ({directory.path.name})"
        with start_run(
            config.tracking, kind="training", name=name, parameters=settings, tags=tags, run_id=directory.run_id()
        ) as run:
            if context.is_main:
                directory.begin(settings, config.training, run.run_id, run.uri)
                _log_splits(run, config, splits)
            clock = time.monotonic()
            trainer_settings = TrainerSettings(config.optimizer, config.epochs, config.seed, config.precision)
            trainer = Trainer(objective, training, validation, trainer_settings, context)
            checkpointed = CheckpointedRun(
                trainer,
                directory,
                context,
                epochs=config.epochs,
                patience=config.patience,
                save_best=lambda path: Segmenter(trainer.validated.network, config.network, config.image).save(path),
                log_epochs=run.log_steps,
            )
            checkpointed.run()
            if not context.is_main:
                return {}
            return _finish(config, splits, directory, run, checkpointed, time.monotonic() - clock, context.device)


def pair_loaders(
    config: SegmentTrainConfig, splits: PairSplits, context: DistributedContext
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Loaders of training and validation.

    Args:
        config: The run.
        splits: The pairs.
        context: This process among all.

    Returns:
        Training images augmented, shuffled and shared out; validation images in order, all of them in each process.

    Raises:
        InputError: The batch size does not divide evenly, or the training images do not fill one batch.
    """
    batch_size = context.share_batch(config.batch_size)
    sites = site_names(splits.training)
    store = make_store(config.image, cache=config.cache)
    if store is not None:  # filled before the loading processes are made, which could not share what they read
        for pairs in (splits.training, splits.validation):
            check_files(pairs, store.pair)

    def loader(frame: pd.DataFrame, *, train: bool) -> DataLoader[Any]:
        return make_loader(
            make_dataset(
                frame,
                sorted(set(frame["label"])),
                config.image,
                augment=config.augment if train else None,
                store=store,
                sites=sites,
            ),
            batch_size=batch_size,
            shuffle=train,
            seed=config.seed,
            workers=loading_processes(config.workers, context.device),
            pin_memory=context.device.type == "cuda",
            drop_last=train,
            rank=context.rank if train else 0,
            world_size=context.count if train else 1,
        )

    return loader(splits.training, train=True), loader(splits.validation, train=False)


def _hearts_of_sites(network: SegmenterConfig, training: pd.DataFrame) -> list[Heart]:
    """The kind of mask of each site, by its index in a batch; none for a network with one output."""
    if len(network.hearts) < 2:
        return []
    kinds = dict(zip(training["site"].astype(str), training["heart"], strict=True))
    return [kinds[site] for site in site_names(training)]


def _log_splits(run: Run, config: SegmentTrainConfig, splits: PairSplits) -> None:
    rows = {"training": (splits.training, config.training), "validation": (splits.validation, config.training)}
    for name, frame in splits.tests.items():
        rows[name] = (frame, config.external if name == "external" else config.training)
    for name, (frame, manifests) in rows.items():
        _log.info("%s: %d pairs of %d sites", name, len(frame), frame["site"].nunique())
        run.log_dataset(frame, name, name, digest(*manifests), source=", ".join(manifests))


def _finish(
    config: SegmentTrainConfig,
    splits: PairSplits,
    directory: RunDirectory,
    run: Run,
    checkpointed: CheckpointedRun,
    seconds: float,
    device: torch.device,
) -> dict[str, MaskEvaluation]:
    """Evaluates the best segmenter, writes `metrics.json`, logs."""
    segmenter = Segmenter.load(directory.best_file, device)
    evaluations = {}
    for name, pairs in splits.tests.items():
        evaluations[name] = evaluate_segmenter(
            segmenter, pairs, config.limits, directory.path / name, resamples=config.resamples, seed=config.seed
        )
        run.log_metrics(flat_overlaps(evaluations[name].sites, name), config.epochs)
        run.log_artifact(directory.path / name / "overlaps.json", name)
    metrics = {
        "digest": segmenter.digest,
        "seed": config.seed,
        "best_epoch": checkpointed.best_epoch,
        "seconds": round(seconds, 1),
        **{name: {site: r.to_dict() for site, r in test.sites.items()} for name, test in evaluations.items()},
    }
    run.log_figure(loss_curves_figure(pd.DataFrame(checkpointed.history)), "loss_curves.png")
    for file in (directory.config_file, directory.history_file, directory.best_file):
        run.log_artifact(file)
    write_json(directory.metrics_file, metrics)  # a directory that holds it is finished: after all else
    run.log_artifact(directory.metrics_file)
    return evaluations
