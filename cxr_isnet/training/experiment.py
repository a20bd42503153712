"""A training from config to judged, logged and registered model."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from cxr_isnet.choices import as_plain
from cxr_isnet.data import MarkMode, make_dataset, make_loader
from cxr_isnet.deployment import Classifier, pyfunc_path
from cxr_isnet.evaluation.commands import flat_metrics, results_table
from cxr_isnet.evaluation.external import TestResults, judge
from cxr_isnet.evaluation.plots import loss_curves_figure
from cxr_isnet.evaluation.prediction import planted_tests
from cxr_isnet.evaluation.report import write_json
from cxr_isnet.manifests import digest
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.objective import Objective
from cxr_isnet.objectives.registry import METHODS
from cxr_isnet.tracking import Run, log_model, start_run
from cxr_isnet.training.config import DataConfig, TrainConfig
from cxr_isnet.training.denormals import denormals_as_zero
from cxr_isnet.training.distributed import Processes, processes
from cxr_isnet.training.fitting import Fitting
from cxr_isnet.training.progress import Progress
from cxr_isnet.training.run_folder import RunFolder
from cxr_isnet.training.shipped_temperature import ship_temperature
from cxr_isnet.training.starting import fit_last_layer, start_from, starting_checkpoint
from cxr_isnet.training.tables import Tables, read_tables
from cxr_isnet.training.tuning import tune

_log = logging.getLogger(__name__)


def train(config: TrainConfig, *, tags: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Trains, judges in-domain and on the external hospitals, logs, and registers if asked to.

    Args:
        config: What is done.
        tags: Of the MLflow run, besides its own.

    Returns:
        What `metrics.json` in the output folder holds.

    Raises:
        InputError: A setting, a table or a file cannot be used; nothing has been trained then.
        DivergedError: A loss became NaN or infinite.
    """
    method = METHODS.get(config.method)
    network = config.network or NetworkConfig(method.network)
    folder = RunFolder.open(config)
    torch.manual_seed(config.seed)
    objective = method.objective(network, len(config.data.classes), config.options.get(config.method, {}))
    tables = read_tables(config.data, config.seed)
    own = {"method": config.method, "network": network.name, "seed": config.seed}
    if config.start_from is not None:
        checkpoint = starting_checkpoint(config.start_from, train, network)
        start_from(objective.network, network, checkpoint)
        own["start_from_sha256"] = digest(checkpoint)
        torch.manual_seed(config.seed)
    with denormals_as_zero(), processes(config.device) as here:
        loaders = _loaders(config, tables, here, here.share_batch(config.batch_size))
        tags = {**own, **(tags or {})}
        with start_run(config.tracking, parameters=as_plain(config), tags=tags, run_id=folder.run_id()) as run:
            if here.is_main:
                folder.begin(config, run.run_id, run.uri)
                _log_tables(run, config.data, tables)
            clock = time.monotonic()
            training = _Training(config, network, loaders, objective, folder, run, here)
            training.run()
            if not here.is_main:
                return {}
            return _finish(config, tables, folder, run, training.history, time.monotonic() - clock, here.device)


@dataclass(frozen=True)
class _Loaders:
    """Training images augmented, shuffled and shared out; those and the validation images in order, whole for each."""

    training: DataLoader[Any]
    every_image: DataLoader[Any]
    validation: DataLoader[Any]


def _loaders(config: TrainConfig, tables: Tables, here: Processes, batch_size: int) -> _Loaders:
    data = config.data

    def loader(frame: pd.DataFrame, *, augment: bool = False, cache: bool = data.cache) -> DataLoader[Any]:
        dataset = make_dataset(
            frame,
            data.classes,
            data.image,
            augment=data.augment if augment else None,
            mark=data.mark,
            mode=MarkMode.NONE if data.mark is None else MarkMode.BIASED,
            cache=cache,
        )
        return make_loader(
            dataset,
            batch_size=batch_size,
            shuffle=augment,
            seed=config.seed,
            workers=data.workers,
            drop_last=augment,
            rank=here.rank if augment else 0,
            world_size=here.count if augment else 1,
        )

    every_image = loader(tables.training, cache=False)  # read for a fitted last layer, and for the cuts
    return _Loaders(loader(tables.training, augment=True), every_image, loader(tables.validation))


class _Training:
    """One training: tuning, then epochs that are kept."""

    def __init__(
        self,
        config: TrainConfig,
        network: NetworkConfig,
        loaders: _Loaders,
        objective: Objective,
        folder: RunFolder,
        run: Run,
        here: Processes,
    ) -> None:
        self._config = config
        self._network = network
        self._loaders = loaders
        self._run = run
        self._here = here
        self._objective = objective
        self._fitting = Fitting(objective, loaders.training, loaders.validation, config, here, config.epochs)
        self._progress = Progress(
            self._fitting,
            folder,
            run,
            here,
            epochs=config.epochs,
            patience=config.patience,
            keepable=self._classifier,
        )

    @property
    def history(self) -> list[dict[str, Any]]:
        return self._progress.history

    def run(self) -> None:
        """Prepares and trains, or goes on where the folder's state says."""
        self._progress.run(self._prepare)

    def _prepare(self) -> None:
        loaders = self._loaders
        if self._config.start_from is not None:
            fit_last_layer(self._objective.network, loaders.every_image)
        tuned = tune(
            self._objective, loaders.training, loaders.every_image, loaders.validation, self._config, self._here
        )
        self._run.log_metrics({f"tuning.{key}": value for key, value in tuned.items()}, 0)

    def _classifier(self) -> Classifier:
        config = self._config
        network = self._fitting.validated.network
        return Classifier(network, self._network, tuple(config.data.classes), config.data.image, config.method)


def _log_tables(run: Run, config: DataConfig, tables: Tables) -> None:
    rows = [
        ("training", tables.training, config.training),
        ("validation", tables.validation, config.training),
    ]
    if tables.external is not None:
        rows.append(("external", tables.external, config.external))
    for name, frame, manifests in rows:
        masked = int((frame["mask"] != "").sum())
        _log.info(
            "%s: %d images, %d with a lung mask; the others add classification loss only",
            name,
            len(frame),
            masked,
        )
        run.log_dataset(frame, name, name, digest(*manifests), source=", ".join(manifests))


def _finish(
    config: TrainConfig,
    tables: Tables,
    folder: RunFolder,
    run: Run,
    history: list[dict[str, Any]],
    seconds: float,
    device: torch.device,
) -> dict[str, Any]:
    """Judges the best classifier, fits its temperature, writes `metrics.json`, logs and registers."""
    classifier = Classifier.load(folder.best_file, device)
    tests = planted_tests(config.data.mark)
    judged: dict[str, TestResults] = {}
    for name, frame in (("validation", tables.validation), ("external", tables.external)):
        if frame is not None:
            judged[name] = judge(
                classifier,
                frame,
                folder.path / name,
                tests,
                resamples=config.resamples,
                seed=config.seed,
                model_uri=run.run_id,
            )
    clean = folder.path / "validation" / "clean" / "predictions.csv"
    calibration = ship_temperature(classifier, clean, folder.best_file)
    frame = pd.DataFrame(history)
    validation = frame[frame["split"] == "validation"]
    best = int(validation["epoch"].to_numpy()[validation["loss"].to_numpy().argmin()])
    metrics = {
        "method": config.method,
        "network": classifier.config.name,
        "seed": config.seed,
        "epochs": int(frame["epoch"].max()),
        "best_epoch": best,
        "seconds": round(seconds, 1),
        "calibration": calibration,
        **{
            part: {test: {site: r.to_dict() for site, r in sites.items()} for test, sites in results.items()}
            for part, results in judged.items()
        },
    }
    run.log_metrics({f"validation.{name}": value for name, value in calibration.items()}, config.epochs)
    _log_results(config, tables, folder, run, judged, frame, calibration["temperature"])
    write_json(folder.metrics_file, metrics)  # a folder that holds it is finished: after all else
    run.log_artifact(folder.metrics_file)
    for part, results in judged.items():
        _log.info("\n%s, %s\n%s", config.method, part, results_table(results))
    return metrics


def _log_results(
    config: TrainConfig,
    tables: Tables,
    folder: RunFolder,
    run: Run,
    judged: dict[str, TestResults],
    history: pd.DataFrame,
    temperature: float,
) -> None:
    flat = {f"{part}.{key}": value for part, results in judged.items() for key, value in flat_metrics(results).items()}
    run.log_metrics(flat, config.epochs)
    run.log_figure(loss_curves_figure(history), "loss_curves.png")
    for file in (folder.config_file, folder.history_file):
        run.log_artifact(file)
    for part, results in judged.items():
        for test in results:
            run.log_artifact(folder.path / part / test, part)
    model = log_model(
        run,
        folder.best_file,
        python_model=pyfunc_path(),
        classes=config.data.classes,
        example_paths=list(tables.validation["image"][:2]),
        register=config.register,
        metadata={"method": config.method, "seed": config.seed, "temperature": temperature},
        params={"calibrated": False},
    )
    if model is not None and model.version is not None:
        _log.info("registered as models:/%s/%d", model.name, model.version)
