"""The training of a segmenter: its config, its epochs, its tests, its log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from cxr_isnet.config import as_plain
from cxr_isnet.data import AugmentConfig, ImageConfig, make_dataset, make_loader
from cxr_isnet.engine.checkpointed_run import CheckpointedRun
from cxr_isnet.engine.devices import Device, denormals_as_zero
from cxr_isnet.engine.distributed import DistributedContext, distributed_context
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.settings import OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.engine.trainer import Trainer
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.figures import loss_curves_figure
from cxr_isnet.files import write_json
from cxr_isnet.manifests import digest
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter
from cxr_isnet.segmentation.mask_evaluation import (
    SiteOverlap,
    draw_overlaps,
    evaluate_overlaps,
    flat_overlaps,
    overlap_table,
    write_overlaps,
)
from cxr_isnet.segmentation.overlap import LungOverlap
from cxr_isnet.segmentation.pairs import Parts
from cxr_isnet.segmentation.quality import QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter
from cxr_isnet.tracking import Run, TrackingConfig, start_run

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
        training: Manifests (tables or recipes); their rows with a given mask are the training and validation pairs.
        output: Folder for checkpoints, tables and pictures; must be empty unless `resume`.
        external: Manifests of sites to judge the segmenter on, which training must not see.
        image: What the network gets to see.
        augment: Random changes in training.
        network: The U-Net.
        optimizer: Optimiser and schedule.
        epochs: Most epochs.
        patience: Ends after so many epochs without a lower validation loss; null for never.
        batch_size: Images per step, over all processes.
        validation_fraction: Share of patients held out where the manifests do not say who belongs to which split.
        workers: Loading processes; 0 loads in the training process, which is fast with cached images.
        cache: Keeps the prepared images in memory.
        seed: Of everything random.
        precision: Arithmetic of the network.
        device: Where.
        resume: Goes on with the unfinished training in `output`.
        resamples: Bootstrap resamples of each interval.
        limits: What quality control trusts.
        tracking: MLflow.
    """

    training: list[str]
    output: str
    external: list[str] = field(default_factory=list)
    image: ImageConfig = field(default_factory=lambda: ImageConfig(size=128))
    augment: AugmentConfig = WIDE
    network: SegmenterConfig = field(default_factory=SegmenterConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=3e-3))
    epochs: int = 40
    patience: int | None = None
    batch_size: int = 8
    validation_fraction: float = 0.15
    workers: int = 0
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
            raise InputError("training is an empty list: name at least one table or recipe")
        for name in ("epochs", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience is {self.patience}; it must be at least 1, or null for never")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction is {self.validation_fraction}; it must lie between 0 and 1")
        if self.seed < 0 or self.workers < 0:
            raise InputError(f"seed is {self.seed} and workers {self.workers}; both must be 0 or more")
        if self.image.size % self.network.stride:
            raise InputError(
                f"image.size is {self.image.size}; a network of {len(self.network.channels)} levels needs a multiple "
                f"of {self.network.stride}"
            )
        shared = sorted(set(self.training) & set(self.external))
        if shared:
            raise InputError(f"{shared} stand in both training and external: an external site must be unseen")


@dataclass(frozen=True)
class Judged:
    """A test of a segmenter: a row per image, and the sites' means."""

    table: pd.DataFrame
    sites: Mapping[str, SiteOverlap]


def train_segmenter(config: SegmentTrainConfig, parts: Parts) -> dict[str, Judged]:
    """Trains on the parts' pairs, or goes on; then judges the epoch of the lowest validation loss.

    Args:
        config: The run; its manifests have been read into `parts`.
        parts: The pairs.

    Returns:
        A judgement per test; none in processes other than the first.

    Raises:
        InputError: A setting, a file or the output folder cannot be used.
        DivergedError: A loss became NaN or infinite.
    """
    settings = as_plain(config)
    folder = RunDirectory.open(config.output, settings, config.training, resume=config.resume)
    torch.manual_seed(config.seed)
    objective = LungOverlap(build_segmenter(config.network))
    with denormals_as_zero(), distributed_context(config.device) as here:
        training, validation = _loaders(config, parts, here)
        tags = {"method": "segmenter", "seed": config.seed}
        with start_run(config.tracking, parameters=settings, tags=tags, run_id=folder.run_id()) as run:
            if here.is_main:
                folder.begin(settings, config.training, run.run_id, run.uri)
                _log_parts(run, config, parts)
            clock = time.monotonic()
            trainer_settings = TrainerSettings(config.optimizer, config.epochs, config.seed, config.precision)
            trainer = Trainer(objective, training, validation, trainer_settings, here)
            progress = CheckpointedRun(
                trainer,
                folder,
                here,
                epochs=config.epochs,
                patience=config.patience,
                save_best=lambda path: Segmenter(trainer.validated.network, config.network, config.image).save(path),
                log_metrics=run.log_metrics,
            )
            progress.run()
            if not here.is_main:
                return {}
            return _finish(config, parts, folder, run, progress, here, time.monotonic() - clock)


def _loaders(
    config: SegmentTrainConfig, parts: Parts, here: DistributedContext
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    batch_size = here.share_batch(config.batch_size)

    def loader(frame: pd.DataFrame, *, train: bool) -> DataLoader[Any]:
        return make_loader(
            make_dataset(
                frame,
                sorted(set(frame["label"])),
                config.image,
                augment=config.augment if train else None,
                cache=config.cache,
            ),
            batch_size=batch_size,
            shuffle=train,
            seed=config.seed,
            workers=config.workers,
            drop_last=train,
            rank=here.rank if train else 0,
            world_size=here.count if train else 1,
        )

    return loader(parts.training, train=True), loader(parts.validation, train=False)


def _log_parts(run: Run, config: SegmentTrainConfig, parts: Parts) -> None:
    rows = {"training": (parts.training, config.training), "validation": (parts.validation, config.training)}
    for name, frame in parts.tests.items():
        rows[name] = (frame, config.external if name == "external" else config.training)
    for name, (frame, manifests) in rows.items():
        _log.info("%s: %d pairs of %d sites", name, len(frame), frame["site"].nunique())
        run.log_dataset(frame, name, name, digest(*manifests), source=", ".join(manifests))


def _finish(
    config: SegmentTrainConfig,
    parts: Parts,
    folder: RunDirectory,
    run: Run,
    progress: CheckpointedRun,
    here: DistributedContext,
    seconds: float,
) -> dict[str, Judged]:
    """Judges the best segmenter, writes `metrics.json`, logs."""
    segmenter = Segmenter.load(folder.best_file, here.device)
    judged = {}
    for name, pairs in parts.tests.items():
        table = overlap_table(segmenter, pairs, config.limits)
        sites = evaluate_overlaps(table, resamples=config.resamples, seed=config.seed)
        write_overlaps(folder.path / name, table, sites, resamples=config.resamples)
        draw_overlaps(folder.path / name, segmenter, table)
        run.log_metrics(flat_overlaps(sites, name), config.epochs)
        run.log_artifact(folder.path / name / "overlaps.json", name)
        judged[name] = Judged(table, sites)
    metrics = {
        "digest": segmenter.digest,
        "seed": config.seed,
        "best_epoch": progress.best_epoch,
        "seconds": round(seconds, 1),
        **{name: {site: r.to_dict() for site, r in test.sites.items()} for name, test in judged.items()},
    }
    run.log_figure(loss_curves_figure(pd.DataFrame(progress.history)), "loss_curves.png")
    for file in (folder.config_file, folder.history_file, folder.best_file):
        run.log_artifact(file)
    write_json(folder.metrics_file, metrics)  # a folder that holds it is finished: after all else
    run.log_artifact(folder.metrics_file)
    return judged
