"""Leave one site out: an experiment trained once for every hospital on all others, each evaluated by the network that
never saw it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from cxr_isnet.data import check_files, site_names
from cxr_isnet.engine import RunDirectory
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import CONTROLS, read_predictions
from cxr_isnet.files import file_slug
from cxr_isnet.manifests import read_manifests
from cxr_isnet.objectives import find_method, options_of
from cxr_isnet.tables import write_table
from cxr_isnet.tracking import Run, nested_in
from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.experiment import train
from cxr_isnet.training.initialisation import sites_trained_on
from cxr_isnet.training.partitions import classes_lacking, divided, shared_images

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteFolds:
    """An experiment and the hospitals to leave out one by one; and where the trainings lie.

    Attributes:
        output: Folder; the trainings lie in `folds/<site>/training`.
        experiment: What is trained. Its output, its register and which hospitals it names do not matter.
        training: Manifests of the hospitals.
    """

    output: str
    experiment: TrainConfig
    training: list[str]

    def __post_init__(self) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("leave_one_site_out trains in one process: start it without torchrun")

    def folder(self, site: str) -> Path:
        """Where the fold of a site lies."""
        return Path(self.output) / "folds" / file_slug(site)


@dataclass(frozen=True)
class FoldPlan:
    """Which sites are left out.

    Attributes:
        frame: Rows of all hospitals.
        sites: Sites to leave out, one by one.
        not_evaluated: The others, without which nothing can be trained, and why.
    """

    frame: pd.DataFrame
    sites: tuple[str, ...]
    not_evaluated: Mapping[str, str]


def plan(folds: SiteFolds) -> FoldPlan:
    """Reads and checks the hospitals; finds out which of them can be left out. Writes and trains nothing.

    Raises:
        InputError: A table or a file cannot be used; there are fewer than two sites, or none can be left out; the
            starting weights were trained on one of them.
    """
    experiment = folds.experiment
    frame = read_manifests(folds.training, classes=experiment.data.classes)
    sites = site_names(frame)
    if len(sites) < 2:
        raise InputError(
            f"column 'site' of {', '.join(folds.training)}: {sites[0]!r} is the only site. To leave one out, two are "
            "needed: add the manifest of another hospital"
        )
    if len({folds.folder(site) for site in sites}) < len(sites):
        raise InputError(f"column 'site': {sites} do not differ in letters and digits: rename a site")
    method = find_method(experiment.method)
    sources = {"init_from": experiment.init_from}
    if method.frozen == "encoder":
        sources["encoder"] = options_of(experiment.options, method).encoder
    for setting, source in sources.items():
        if source is not None:
            _check_initial_weights(setting, source, sites)
    lacking = {site: _lacking_without(site, frame, experiment) for site in sites}
    not_evaluated = {site: reason for site, reason in lacking.items() if reason}
    if len(not_evaluated) == len(sites):
        reasons = "; ".join(f"without {site!r} {reason}" for site, reason in not_evaluated.items())
        raise InputError(
            f"column 'label' of {', '.join(folds.training)}: no site can be left out: {reasons}. Add a hospital with "
            "images of all of data.classes"
        )
    for site, reason in not_evaluated.items():
        _log.warning("%s is not evaluated: without it, %s", site, reason)
    check_files(frame)
    return FoldPlan(frame, tuple(s for s in sites if s not in not_evaluated), not_evaluated)


def train_folds(folds: SiteFolds, chosen: FoldPlan, run: Run) -> None:
    """Trains what is not trained yet, a network for every site that is left out, each as an MLflow run below `run`."""
    with shared_images(folds.experiment.data, Path(folds.output) / "images") as data:
        shared = replace(folds, experiment=replace(folds.experiment, data=data))
        for site in tqdm(chosen.sites, desc="leave one site out", unit="site", disable=None):
            _train_fold(shared, chosen, site, run)


def _train_fold(folds: SiteFolds, chosen: FoldPlan, site: str, run: Run) -> None:
    config = _fold(folds, site)
    folder = folds.folder(site)
    folder.mkdir(parents=True, exist_ok=True)
    left_out = chosen.frame["site"] == site
    write_table(chosen.frame[~left_out], Path(config.data.training[0]))
    write_table(chosen.frame[left_out], Path(config.data.external[0]))
    there = RunDirectory(Path(config.output))
    config = replace(config, resume=there.config_file.is_file())
    if there.metrics_file.is_file():
        RunDirectory.open(config.output, config.resolved(), config.data.training, resume=True)
        _log.info("%s is left out already", site)
        return
    _log.info("leaving out %s: training on %s", site, ", ".join(s for s in site_names(chosen.frame) if s != site))
    train(config, tags={**nested_in(run), "site_left_out": site})


def fold_tables(folds: SiteFolds, chosen: FoldPlan) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """By site the predictions of its images, with the manifest's columns, and of its network's validation images."""
    found = {}
    classes = folds.experiment.data.classes
    for site in chosen.sites:
        parts = []
        for part in ("external", "validation"):
            file = folds.folder(site) / "training" / part / "clean" / "predictions.csv"
            parts.append(read_predictions(file, classes, chosen.frame))
        found[site] = (parts[0], parts[1])
    return found


def fold_controls(folds: SiteFolds, chosen: FoldPlan) -> dict[str, pd.DataFrame]:
    """Control to its predictions of every site, each by the control that learned with the site's network."""
    found: dict[str, list[pd.DataFrame]] = {}
    for site in chosen.sites:
        external = folds.folder(site) / "training" / "external"
        for control in CONTROLS:
            file = external / control.name / "predictions.csv"
            if file.is_file():
                found.setdefault(control.name, []).append(read_predictions(file, folds.experiment.data.classes))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}


def galleries(folds: SiteFolds, chosen: FoldPlan) -> dict[str, Path]:
    """Heatmaps of every site's images, by its own network."""
    pictures = {
        f"{site} left out": sorted((folds.folder(site) / "training" / "external" / "clean").glob("heatmaps*.png"))
        for site in chosen.sites
    }
    return {title: files[0] for title, files in pictures.items() if files}


def _fold(folds: SiteFolds, site: str) -> TrainConfig:
    """The experiment on all hospitals but one; nothing is registered, since no fold is the model to use."""
    folder, experiment = folds.folder(site), folds.experiment
    data = replace(experiment.data, training=[str(folder / "training.csv")], external=[str(folder / "left_out.csv")])
    tracking = replace(experiment.tracking, run_name=f"without {site}")
    output = str(folder / "training")
    return replace(experiment, data=data, output=output, tracking=tracking, register=None, resume=False)


def _lacking_without(site: str, frame: pd.DataFrame, experiment: TrainConfig) -> str:
    others = frame[frame["site"] != site].reset_index(drop=True)
    return classes_lacking(divided(others, experiment.data, experiment.seed), experiment.data.classes)


def _check_initial_weights(setting: str, source: str, sites: Sequence[str]) -> None:
    """Weights that have seen a hospital cannot be evaluated on it."""
    seen = sites_trained_on(source)
    if seen is None:
        _log.warning(
            "%s: its hospitals are unknown without the config.yaml beside it; it must not have seen %s",
            source,
            list(sites),
        )
    elif seen & set(sites):
        raise InputError(
            f"{source}: {setting} was trained on {sorted(seen & set(sites))}, which would be left out after it was "
            "seen. Start from other hospitals' weights, or from none"
        )
