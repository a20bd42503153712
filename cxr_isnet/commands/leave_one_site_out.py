"""`cxr-isnet leave-one-site-out`: every hospital evaluated by a network that was trained on the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from cxr_isnet.commands.evaluate import EvaluationConfig, log_report
from cxr_isnet.config import as_plain
from cxr_isnet.engine import RunDirectory
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import check_prevalence, evaluate_folds, study_text, write_predictions, write_report
from cxr_isnet.manifests import digest
from cxr_isnet.tracking import TrackingConfig, check_store, start_run
from cxr_isnet.training import (
    FoldPlan,
    SiteFolds,
    TrainConfig,
    fold_controls,
    fold_tables,
    galleries,
    plan,
    read_experiment_config,
    train_folds,
)


@dataclass(frozen=True, kw_only=True)
class LeaveOneSiteOutConfig(EvaluationConfig):
    """Training of an experiment once for every hospital, on the others, and its evaluation on that one.

    Attributes:
        experiment: Config (YAML) of a training, or the name of a recipe. Its output and register are ignored.
        output: Folder for the results and, in `folds`, the trainings; must be empty unless `resume`.
        manifest: Manifests of the hospitals; empty takes all that the experiment names.
        resume: Resumes the unfinished evaluation in `output`.
        tracking: MLflow.
    """

    experiment: str
    output: str
    manifest: list[str] = field(default_factory=list)
    resume: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def leave_one_site_out(config: LeaveOneSiteOutConfig) -> str:
    """Trains and evaluates; returns the results as a text table.

    Leaves, beside the report, `predictions.csv` of all sites and the trainings in `folds`.

    Raises:
        InputError: A setting, a table or a file cannot be used; nothing has been trained then.
        DivergedError: A loss became NaN or infinite.
    """
    with RunDirectory(Path(config.output)).held():
        return _leave_one_site_out_held(config)


def _leave_one_site_out_held(config: LeaveOneSiteOutConfig) -> str:
    """As `leave_one_site_out`, while no other process trains into the output folder."""
    experiment = replace(read_experiment_config(config.experiment), tracking=config.tracking)
    manifests = config.manifest or [*experiment.data.training, *experiment.data.external]
    everywhere = _all_hospitals(experiment, manifests)
    folds = SiteFolds(config.output, everywhere, manifests)
    remembered = {"experiment": everywhere.resolved(), "manifest": manifests}
    directory = RunDirectory.open(config.output, remembered, manifests, resume=config.resume)
    check_store(config.tracking, directory.run_id())
    chosen = plan(folds)
    _check_report(config, experiment, chosen)
    settings, classes = config.settings(), tuple(experiment.data.classes)
    tags = {"method": experiment.method}
    parameters = {**as_plain(config), "experiment": everywhere.resolved()}
    name = f"{experiment.method} leave one site out ({directory.path.name})"
    with start_run(
        config.tracking,
        kind="leave_one_site_out",
        name=name,
        parameters=parameters,
        tags=tags,
        run_id=directory.run_id(),
    ) as run:
        directory.begin(remembered, manifests, run.run_id, run.uri)
        run.log_dataset(chosen.frame, "sites", "evaluation", digest(*manifests), source=", ".join(manifests))
        train_folds(folds, chosen, run)
        tables = fold_tables(folds, chosen)
        controls = fold_controls(folds, chosen)
        study = evaluate_folds(experiment.method, tables, classes, settings, chosen.not_evaluated, controls)
        together = pd.concat([table for table, _ in tables.values()], ignore_index=True)
        write_predictions(together, directory.path / "predictions.csv")
        run.log_artifact(directory.path / "predictions.csv")
        write_report(directory.path, study, {experiment.method: together}, galleries(folds, chosen))
        log_report(run, directory.path, study)
    return study_text(study)


def _all_hospitals(experiment: TrainConfig, manifests: list[str]) -> TrainConfig:
    """The experiment as the run directory stores it: all that decides about its trainings."""
    data = replace(experiment.data, training=manifests, external=[])
    return replace(experiment, data=data, output="", register=None, resume=False)


def _check_report(config: LeaveOneSiteOutConfig, experiment: TrainConfig, chosen: FoldPlan) -> None:
    """What the report would stumble over after hours of training."""
    check_prevalence(config.settings(), experiment.data.classes)
    if config.sensitivity is not None and len(experiment.data.classes) != 2:
        raise InputError(f"sensitivity is {config.sensitivity}, but data.classes has not two: leave it out")
    unknown = sorted(set(config.groups or ()) - {*chosen.frame.columns, "age_band"})
    if unknown:
        raise InputError(f"groups names {unknown[0]!r}, which is no column of the manifests: add it there")
