"""`cxr-isnet evaluate` as a whole: what is trained already, and, with `leave_one_site_out`, what is trained for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cxr_isnet.choices import as_plain
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.commands import EvaluateConfig, evaluate, leave_study
from cxr_isnet.evaluation.predictions import write_predictions
from cxr_isnet.evaluation.study import check_prevalence, judge_folds, study_text
from cxr_isnet.manifests import digest
from cxr_isnet.tracking import start_run
from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.run_folder import RunFolder
from cxr_isnet.training.site_folds import FoldPlan, SiteFolds, fold_tables, galleries, plan, train_folds
from cxr_isnet.training.starting import read_recipe


@dataclass(frozen=True)
class EvaluateOrTrainConfig(EvaluateConfig):
    """Judging a trained classifier, anybody's predictions, or the recipe of a training, on hospitals.

    Attributes:
        leave_one_site_out: Recipe (YAML) of a training, in place of `model` and `predictions`. For every site of
            `manifest`, or of all hospitals that the recipe names, it is trained on the other sites and judged on that
            one; the report has every site by the network that never saw it. Its output and register are not looked at.
        resume: Goes on with the unfinished `leave_one_site_out` in `output`.
    """

    leave_one_site_out: str | None = None
    resume: bool = False

    def _check_sources(self) -> None:
        if self.leave_one_site_out is None:
            if self.resume:
                raise InputError("resume goes with leave_one_site_out: there is nothing else to go on with")
            super()._check_sources()
            return
        given = [n for n in ("model", "predictions", "validation", "classes", "audit", "mark") if getattr(self, n)]
        if given:
            raise InputError(
                f"{given[0]} does not go with leave_one_site_out, whose recipe says what is trained: leave it out"
            )


def evaluate_or_train(config: EvaluateOrTrainConfig) -> str:
    """Judges models on the sites, once they are trained; returns the results as a text table.

    With `leave_one_site_out` it leaves, beside the report, `predictions.csv` of all sites and the trainings in `folds`.

    Raises:
        InputError: A setting, a table or a file cannot be used; nothing has been trained then.
        DivergedError: A loss became NaN or infinite.
    """
    if config.leave_one_site_out is None:
        return evaluate(config)
    recipe = replace(read_recipe(Path(config.leave_one_site_out)), tracking=config.tracking)
    manifests = config.manifest or [*recipe.data.training, *recipe.data.external]
    folds = SiteFolds(config.output, _all_hospitals(recipe, manifests), manifests, config.resume)
    folder = RunFolder.open(folds)
    chosen = plan(folds)
    _check_report(config, recipe, chosen)
    settings, classes = config.settings(), tuple(recipe.data.classes)
    tags = {"kind": "leave_one_site_out", "method": recipe.method}
    parameters = {**as_plain(config), "recipe": as_plain(recipe)}
    with start_run(config.tracking, parameters=parameters, tags=tags, run_id=folder.run_id()) as run:
        folder.begin(folds, run.run_id, run.uri)
        run.log_dataset(chosen.frame, "sites", "evaluation", digest(*manifests), source=", ".join(manifests))
        train_folds(folds, chosen, run)
        tables = fold_tables(folds, chosen)
        study = judge_folds(recipe.method, tables, classes, settings, chosen.not_judged)
        together = pd.concat([table for table, _ in tables.values()], ignore_index=True)
        write_predictions(together, folder.path / "predictions.csv")
        run.log_artifact(folder.path / "predictions.csv")
        leave_study(run, folder.path, study, {recipe.method: together}, galleries(folds, chosen))
    return study_text(study)


def _all_hospitals(recipe: TrainConfig, manifests: list[str]) -> TrainConfig:
    """The recipe as the folder of the study remembers it: all that decides about its trainings."""
    data = replace(recipe.data, training=manifests, external=[])
    return replace(recipe, data=data, output="", register=None, resume=False)


def _check_report(config: EvaluateConfig, recipe: TrainConfig, chosen: FoldPlan) -> None:
    """What the report would stumble over after hours of training."""
    check_prevalence(config.settings(), recipe.data.classes)
    if config.sensitivity is not None and len(recipe.data.classes) != 2:
        raise InputError(f"sensitivity is {config.sensitivity}, but data.classes has not two: leave it out")
    unknown = sorted(set(config.groups or ()) - {*chosen.frame.columns, "age_band"})
    if unknown:
        raise InputError(f"groups names {unknown[0]!r}, which is no column of the manifests: add it there")
