"""A training from config to evaluated, logged and registered model."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cxr_isnet.config import as_plain
from cxr_isnet.data import MarkMode, loading_processes, make_dataset, make_loader, site_names
from cxr_isnet.deployment import EXTERNAL_TAG, SEEN_TAG
from cxr_isnet.engine import (
    CheckpointedRun,
    DistributedContext,
    RunDirectory,
    Trainer,
    TrainerSettings,
    denormals_as_zero,
    distributed_context,
)
from cxr_isnet.errors import InputError, Problems
from cxr_isnet.evaluation import hand_till_auc
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import digest
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives import Groups, LinearProbe, Objective, TrainingSet, find_method, options_of
from cxr_isnet.tracking import Run, check_method, check_store, environment, is_new, open_store, resolve_uri, start_run
from cxr_isnet.training.bound_estimation import estimate_bounds
from cxr_isnet.training.config import DataConfig, TrainConfig
from cxr_isnet.training.finish import finish
from cxr_isnet.training.frozen_part import read_frozen_part
from cxr_isnet.training.initialisation import fit_last_layer, init_from, initial_checkpoint
from cxr_isnet.training.partitions import Partitions, check_masks, read_partitions

_log = logging.getLogger(__name__)


def train(config: TrainConfig, *, tags: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Trains, evaluates in-domain and on the external hospitals, logs, and registers if asked to.

    Args:
        config: What is done.
        tags: Of the MLflow run, besides its own.

    Returns:
        What `metrics.json` in the output folder holds.

    Raises:
        InputError: A setting, a table or a file cannot be used; nothing has been trained then.
        DivergedError: A loss became NaN or infinite.

    Example:
        >>> from cxr_isnet import DataConfig, ImageConfig, NetworkConfig, TrackingConfig
        >>> data = DataConfig(["hospital_a/manifest.csv"], ["normal", "tuberculosis"], image=ImageConfig(32))
        >>> settings = {"network": NetworkConfig("densenet_tiny"), "epochs": 1, "batch_size": 4, "resamples": 20}
        >>> off = TrackingConfig(enabled=False)
        >>> metrics = train(TrainConfig(data, "runs/third", "cross_entropy", tracking=off, **settings))
        >>> metrics["method"], sorted(metrics["validation"]["clean"])
        ('cross_entropy', ['Alder'])
    """
    with RunDirectory(Path(config.output)).held():
        return _train_held(config, tags or {})


def _train_held(config: TrainConfig, tags: Mapping[str, object]) -> dict[str, Any]:
    """As `train`, while no other process trains into the output folder."""
    method = find_method(config.method)
    network = config.network or NetworkConfig(method.network)
    settings = config.resolved()
    manifests = config.data.training
    directory = RunDirectory.open(config.output, settings, manifests, resume=config.resume)
    problems = Problems()
    with problems.noted():
        check_store(config.tracking, directory.run_id())
        if config.register is not None and not is_new(resolve_uri(config.tracking.uri)):
            check_method(open_store(resolve_uri(config.tracking.uri)), config.register, settings["method"])
    with problems.noted():
        method.check_network(network, config.data.image.size)
    with problems.noted():
        partitions = read_partitions(config.data, config.seed)
        check_masks(method, partitions.training, config.data)
    problems.raise_all()
    partitions.check_files()  # may take long: behind all that is known without an image
    own = {"method": settings["method"], "network": network.name, "seed": config.seed}
    options = options_of(config.options, method)
    frozen = read_frozen_part(method, options, config)
    torch.manual_seed(config.seed)
    if frozen is not None:
        options = frozen.options
        own[method.frozen] = frozen.identity
    objective = method.objective(network, len(config.data.classes), config.data.image.size, options)
    if config.init_from is not None:
        checkpoint = initial_checkpoint(config.init_from, train, network)
        init_from(objective.network, network, config.data.image.size, checkpoint)
        own["init_from_sha256"] = digest(checkpoint)
        torch.manual_seed(config.seed)
    if frozen is not None:
        frozen.fill(objective.network)
    images = _training_set(partitions.training, config.data.classes)
    objective.see_training_set(images)
    if config.balance.groups is not Groups.NONE:
        objective.balance(images, config.balance)
    with denormals_as_zero(), distributed_context(config.device) as context:
        loaders = _loaders(config, partitions, objective.sampling_weights, context)
        with start_run(
            config.tracking,
            kind="training",
            name=f"{own['method']} {network.name} seed {config.seed} ({directory.path.name})",
            parameters={**settings, "versions": environment()},
            tags={**own, "device": str(context.device), **tags},
            run_id=directory.run_id(),
        ) as run:
            if context.is_main:
                directory.begin(settings, manifests, run.run_id, run.uri, about=environment())
                _log_partitions(run, config.data, partitions)
            clock = time.monotonic()
            history = _fit(config, network, objective, as_plain(options), loaders, directory, run, context)
            if not context.is_main:
                return {}
            seconds = time.monotonic() - clock
            metrics, logged = finish(config, partitions, directory, run, history, seconds, context.device)
    if config.register is not None and not logged:
        raise InputError(
            f"trained and evaluated into '{config.output}', but not registered as {config.register!r}: the store "
            f"{config.tracking.uri} failed. Once it answers, give the same command with --resume true"
        )
    return metrics


def _training_set(frame: pd.DataFrame, classes: list[str]) -> TrainingSet:
    sites = site_names(frame)
    labels = torch.tensor([classes.index(label) for label in frame["label"]])
    return TrainingSet(labels, torch.tensor([sites.index(str(s)) for s in frame["site"]]), len(classes), len(sites))


@dataclass(frozen=True)
class _Loaders:
    """Training images augmented, shuffled and shared out; those and the validation images in order, whole for each."""

    training: DataLoader[Any]
    every_image: DataLoader[Any]
    validation: DataLoader[Any]


def _loaders(
    config: TrainConfig, partitions: Partitions, weights: Tensor | None, context: DistributedContext
) -> _Loaders:
    data, batch_size = config.data, context.share_batch(config.batch_size)
    sites = site_names(partitions.training)

    def loader(frame: pd.DataFrame, *, augment: bool = False) -> DataLoader[Any]:
        dataset = make_dataset(
            frame,
            data.classes,
            data.image,
            augment=data.augment if augment else None,
            mark=data.mark,
            mode=MarkMode.NONE if data.mark is None else MarkMode.BIASED,
            store=partitions.store,
            sites=sites,
        )
        return make_loader(
            dataset,
            batch_size=batch_size,
            shuffle=augment,
            seed=config.seed,
            workers=loading_processes(data.workers, context.device),
            pin_memory=context.device.type == "cuda",
            drop_last=augment,
            rank=context.rank if augment else 0,
            world_size=context.count if augment else 1,
            weights=weights.tolist() if augment and weights is not None else None,
        )

    return _Loaders(
        training=loader(partitions.training, augment=True),
        every_image=loader(partitions.training),
        validation=loader(partitions.validation),
    )


def _fit(
    config: TrainConfig,
    network: NetworkConfig,
    objective: Objective,
    options: Mapping[str, Any],
    loaders: _Loaders,
    directory: RunDirectory,
    run: Run,
    context: DistributedContext,
) -> list[dict[str, Any]]:
    """Prepares and trains, or goes on where the directory's state says; returns the history."""
    settings = TrainerSettings(config.optimizer, config.epochs, config.seed, config.precision, config.compile)
    trainer = Trainer(objective, loaders.training, loaders.validation, settings, context, _validation_metrics)
    method, provenance = config.resolved()["method"], config.provenance()

    def prepare() -> None:
        if config.init_from is not None or isinstance(objective.network, LinearProbe):
            fit_last_layer(objective.network, loaders.every_image)
        bounds = estimate_bounds(
            objective, loaders.training, loaders.every_image, loaders.validation, settings, context
        )
        run.log_metrics({f"training/bounds/{key}": value for key, value in bounds.items()}, 0)

    def save_best(path: Path) -> None:
        predictor = trainer.validated.network
        classes, image = tuple(config.data.classes), config.data.image
        Classifier(predictor, network, classes, image, method, options=options, provenance=provenance).save(path)

    def log_epochs(epochs: Mapping[int, Mapping[str, float]]) -> None:
        split = "validation" if config.data.mark is None else "validation_marked"
        named = {
            epoch: {key.replace("/validation/", f"/{split}/"): value for key, value in terms.items()}
            for epoch, terms in epochs.items()
        }
        run.log_steps(named)

    checkpointed = CheckpointedRun(
        trainer,
        directory,
        context,
        epochs=config.epochs,
        patience=config.patience,
        save_best=save_best,
        log_epochs=log_epochs,
    )
    checkpointed.run(prepare)
    return checkpointed.history


def _validation_metrics(labels: Tensor, probabilities: Tensor) -> dict[str, float]:
    return {"auc": hand_till_auc(labels.numpy(), probabilities.double().numpy())}


def _log_partitions(run: Run, config: DataConfig, partitions: Partitions) -> None:
    rows = [
        ("training", partitions.training, config.training),
        ("validation", partitions.validation, config.training),
    ]
    if partitions.external is not None:
        rows.append(("external", partitions.external, config.external))
    for name, frame, manifests in rows:
        masked = int((frame["mask"] != "").sum())
        _log.info(
            "%s: %d images, %d with a lung mask; the others add classification loss only",
            name,
            len(frame),
            masked,
        )
        run.log_dataset(frame, name, name, digest(*manifests), source=", ".join(manifests))
    for tag, tables in ((SEEN_TAG, config.training), (EXTERNAL_TAG, config.external)):
        run.set_tags({tag: " ".join(map(digest, tables))})
