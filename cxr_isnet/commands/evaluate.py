"""`cxr-isnet evaluate`: predictions tables to numbers, figures and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.config import as_plain
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import (
    FILES,
    Settings,
    Study,
    evaluate_tables,
    read_predictions,
    read_tables,
    study_metrics,
    study_text,
    write_report,
)
from cxr_isnet.files import new_folder, output_folder
from cxr_isnet.manifests import digest, inspect_manifest, join_tables, raise_first
from cxr_isnet.tracking import Run, TrackingConfig, check_store, start_run

Tables = dict[str, str] | list[str] | str
"""Files of tables: one, several, or a name for each, as `{isnet: a.csv}` or `isnet=a.csv`."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How predictions are evaluated, whoever made them.

    Attributes:
        groups: Columns to make groups of patients by; null takes sex, age_band, view, device, manufacturer and site.
        prevalence: Shares of classes for which PPV and NPV are computed besides, as {tuberculosis: 0.01}.
        sensitivity: Least sensitivity that the threshold must reach on validation; null takes the best Youden index.
        resamples: Bootstrap resamples of each interval.
        seed: Of the bootstrap.
        margin: By how much the AUC of a model may at most be lower than that of another to which it is not inferior, as
            0.05; null asks no such question.
    """

    groups: list[str] | None = None
    prevalence: dict[str, float] = field(default_factory=dict)
    sensitivity: float | None = None
    resamples: int = 2000
    seed: int = 0
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.resamples < 1 or self.seed < 0:
            raise InputError(f"resamples is {self.resamples} and seed {self.seed}: at least 1 and 0 are needed")
        if self.sensitivity is not None and not 0 < self.sensitivity <= 1:
            raise InputError(f"sensitivity is {self.sensitivity}: it must be a share in (0, 1]")
        if self.margin is not None and not 0 < self.margin < 1:
            raise InputError(f"margin is {self.margin}: give a difference of AUCs in (0, 1), as 0.05")

    def settings(self) -> Settings:
        """As the evaluation takes them."""
        return Settings(self.resamples, self.seed, self.groups, self.prevalence, self.sensitivity, self.margin)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(EvaluationConfig):
    """Evaluation of predictions tables, one for each model, and comparison of the models on the same patients.

    Attributes:
        predictions: Tables of predictions, as `cxr-isnet predict` or any other program writes them; a table per model,
            named by its file, or as NAME=FILE.
        output: Folder for the results; must be empty.
        manifest: Manifests that add the columns which those tables lack; the images need not be there.
        validation: Tables of the same models on in-domain validation, in the same order or with the same names. They
            set the threshold and the temperature, and internal minus external is measured from them.
        controls: Tables of controls, classifiers that see no lungs, on the same images, named by their files or as
            thumbnail=FILE: a training leaves them in `external/<control>/predictions.csv`.
        classes: Classes in order, of two the one to find last; empty takes the order of the columns.
        audit: `audit.json` of the shortcut audit, for the report.
        tracking: MLflow.
    """

    predictions: Tables
    output: str
    manifest: list[str] = field(default_factory=list)
    validation: Tables | None = None
    controls: Tables | None = None
    classes: list[str] = field(default_factory=list)
    audit: str | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sensitivity is not None and self.validation is None:
            raise InputError(f"sensitivity is {self.sensitivity}: it needs a validation table")


def evaluate(config: EvaluateConfig) -> str:
    """Evaluates tables; returns the results as a text table.

    Leaves `report.html`, `report.json`, `metrics.csv` and `model_card.md` in the output folder and in MLflow.

    Raises:
        InputError: A setting, a table or a file cannot be used.
    """
    output = output_folder(config.output)
    check_store(config.tracking)
    paths = named_tables(config.predictions)
    classes, tables = read_tables(paths, config.classes, _listed(config.manifest))
    validation = _validation(config, classes, list(paths))
    controls = {name: read_predictions(file, classes) for name, file in named_tables(config.controls).items()}
    audit = read_audit(config.audit)
    study = evaluate_tables(tables, classes, validation, config.settings(), audit, controls=controls)
    name = f"evaluation of {', '.join(tables)} ({output.name})"
    with start_run(config.tracking, kind="evaluation", name=name, parameters=as_plain(config)) as run:
        for name, table in tables.items():
            run.log_dataset(table, name, "evaluation", digest(paths[name]), source=paths[name])
        with new_folder(config.output) as folder:
            write_report(folder, study, tables)
        log_report(run, output, study)
    return study_text(study)


def log_report(run: Run, output: Path, study: Study) -> None:
    """Logs the report that `write_report` wrote into a folder, and its numbers."""
    run.log_metrics(study_metrics(study), 0)
    for name in FILES:
        run.log_artifact(output / name)


def named_tables(given: Tables | None) -> dict[str, str]:
    """Model to the file of its table; files without a name take that of the file, which must differ."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    files = [given] if isinstance(given, str) else list(given)
    pairs = [
        file.partition("=")[::2] if "=" in file and not Path(file).exists() else (Path(file).stem, file)
        for file in files
    ]
    named: dict[str, str] = dict(pairs)
    if not files or len(named) < len(files):
        raise InputError(f"{files}: give tables of different file names, or name them, as isnet=a.csv plain=b.csv")
    return named


def _validation(config: EvaluateConfig, classes: Sequence[str], models: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The validation tables by model: by their names where they have some, else in the order of the models."""
    if config.validation is None:
        return {}
    given = config.validation
    files = named_tables(given)
    unnamed = not isinstance(given, Mapping) and not set(files) & set(models)
    named = dict(zip(models, files.values(), strict=False)) if unnamed else files
    if set(named) != set(models) or len(files) != len(models):
        raise InputError(f"validation is {config.validation}: give a table for each of {list(models)}, in their order")
    manifest = _listed(config.manifest)
    return {name: read_predictions(file, classes, manifest) for name, file in named.items()}


def _listed(manifests: Sequence[str]) -> pd.DataFrame | None:
    """The rows of manifests whose images need not be there."""
    if not manifests:
        return None
    frames = []
    for path in manifests:
        frame, problems = inspect_manifest(path)
        raise_first(problems)
        frames.append(frame)
    return join_tables(manifests, frames).reset_index(drop=True)


def read_audit(path: str | None) -> dict[str, Any] | None:
    """Content of an `audit.json`, None for no path; raises `InputError` if it is none."""
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}. Name an audit.json of the shortcut audit") from error
    if not isinstance(content, dict) or not {"model", "verdict", "probes"} <= content.keys():
        raise InputError(f"{path}: lacks 'model', 'verdict' or 'probes'. Name an audit.json of the shortcut audit")
    return content
