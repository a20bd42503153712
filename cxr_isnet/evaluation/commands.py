"""`cxr-isnet evaluate` and `cxr-isnet explain`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cxr_isnet.choices import as_plain
from cxr_isnet.data import MarkConfig, check_files, prepare_image
from cxr_isnet.deployment import Classifier
from cxr_isnet.devices import Device
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.assessment import Settings
from cxr_isnet.evaluation.external import TestResults, judge
from cxr_isnet.evaluation.gallery import HeatmapCase, heatmap_gallery
from cxr_isnet.evaluation.prediction import planted_tests
from cxr_isnet.evaluation.predictions import read_predictions
from cxr_isnet.evaluation.study import Study, judge_tables, study_metrics, study_text
from cxr_isnet.evaluation.study_report import FILES, write_study
from cxr_isnet.evaluation.table_reading import read_tables, with_manifest_columns
from cxr_isnet.files import file_slug, output_folder
from cxr_isnet.intake import read_image
from cxr_isnet.manifests import digest, read_manifests
from cxr_isnet.manifests.problems import refuse
from cxr_isnet.manifests.reading import inspect_manifest, join_tables
from cxr_isnet.relevance import LRP
from cxr_isnet.tracking import Run, TrackingConfig, start_run


@dataclass(frozen=True)
class EvaluateConfig:
    """Judging a trained classifier, or anybody's predictions, on hospitals.

    Attributes:
        output: Folder for the results; must be empty.
        model: Checkpoint `best.pt` of a training's folder, which predicts the images of `manifest`; null for given
            predictions.
        manifest: Manifests of the hospitals, tables or recipes. With `predictions`, they add the columns that those
            tables lack, and the images need not be there.
        predictions: Tables of predictions: one file, a list of files, or a name for each file; a table per model.
        validation: Tables of the same models on in-domain validation, in the same order or with the same names. They
            set the threshold and the temperature, and the drop from inside to outside is measured from them. Without
            them, a checkpoint's own temperature is taken.
        classes: Classes in order, of two the one to find last; empty takes the model's or the order of the columns.
        groups: Columns to make groups of patients by; null takes sex, age_band, view, device, manufacturer and site.
        prevalence: Shares of classes for which PPV and NPV are computed besides, as {tuberculosis: 0.01}.
        sensitivity: Least sensitivity that the threshold must reach on validation; null takes the best Youden index.
        audit: `audit.json` of the shortcut audit, to be told in the report.
        mark: Tests of a model with planted marks too; null for the images as they are.
        resamples: Bootstrap resamples of each interval.
        seed: Of the bootstrap.
        device: Where `model` predicts.
        tracking: MLflow.
    """

    output: str
    model: str | None = None
    manifest: list[str] = field(default_factory=list)
    predictions: dict[str, str] | list[str] | str | None = None
    validation: dict[str, str] | list[str] | str | None = None
    classes: list[str] = field(default_factory=list)
    groups: list[str] | None = None
    prevalence: dict[str, float] = field(default_factory=dict)
    sensitivity: float | None = None
    audit: str | None = None
    mark: MarkConfig | None = None
    resamples: int = 2000
    seed: int = 0
    device: Device = Device.AUTO
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        self._check_sources()
        if self.resamples < 1 or self.seed < 0:
            raise InputError(f"resamples is {self.resamples} and seed {self.seed}: at least 1 and 0 are needed")
        if self.sensitivity is not None and not 0 < self.sensitivity <= 1:
            raise InputError(f"sensitivity is {self.sensitivity}: it must be a share in (0, 1]")

    def _check_sources(self) -> None:
        """What is judged is told, and nothing that does not go with it."""
        if (self.model is None) == (self.predictions is None):
            raise InputError("give either model, a checkpoint, or predictions, a table; not both")
        if self.model is not None and not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or recipe of images to predict")
        if self.model is None and self.mark is not None:
            raise InputError("mark plants marks into images that a model predicts; leave it null for predictions")
        if self.sensitivity is not None and self.validation is None:
            raise InputError(f"sensitivity is {self.sensitivity}: it needs a validation table")

    def settings(self) -> Settings:
        """How models are judged."""
        return Settings(self.resamples, self.seed, self.groups, self.prevalence, self.sensitivity)


@dataclass(frozen=True)
class ExplainConfig:
    """Heatmaps of single images.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder.
        images: X-rays (PNG, JPEG or DICOM).
        output: Folder for a PNG per image; made if missing.
        device: Where maps are computed.
    """

    model: str
    images: list[str]
    output: str
    device: Device = Device.AUTO

    def __post_init__(self) -> None:
        names = [_picture_name(path) for path in self.images]
        if not names or len(set(names)) < len(names):
            raise InputError(f"images is {self.images}: give one or more files of different names")


def evaluate(config: EvaluateConfig) -> str:
    """Judges models on the sites; returns the results as a text table.

    Leaves `report.html`, `report.json`, `metrics.csv` and `model_card.md` in the output folder and in MLflow, and of a
    checkpoint a folder per test (`clean`, and with marks `biased` and `swapped`) with its predictions and heatmaps.

    Raises:
        InputError: A setting, a table or a file cannot be used.
    """
    output = output_folder(config.output)
    return _evaluate_tables(config, output) if config.model is None else _evaluate_model(config, output)


def _evaluate_tables(config: EvaluateConfig, output: Path) -> str:
    paths = named_tables(config.predictions)
    classes, tables = read_tables(paths, config.classes, _listed(config.manifest))
    validation = _validation(config, classes, list(paths))
    study = judge_tables(tables, classes, validation, config.settings(), _audit(config.audit))
    with start_run(config.tracking, parameters=as_plain(config)) as run:
        for name, table in tables.items():
            run.log_dataset(table, name, "evaluation", digest(paths[name]), source=paths[name])
        leave_study(run, output, study, tables, {})
    return study_text(study)


def _evaluate_model(config: EvaluateConfig, output: Path) -> str:
    classifier = Classifier.load(str(config.model), config.device.found())
    frame = read_manifests(config.manifest, classes=classifier.classes)
    check_files(frame)
    validation = _validation(config, classifier.classes, [classifier.method])
    audit = _audit(config.audit)
    with start_run(config.tracking, parameters=as_plain(config), tags={"method": classifier.method}) as run:
        read = digest(*config.manifest)
        run.log_dataset(frame, "external", "evaluation", read, source=", ".join(config.manifest))
        results = judge(
            classifier,
            frame,
            output,
            planted_tests(config.mark),
            resamples=config.resamples,
            seed=config.seed,
            model_uri=str(config.model),
        )
        run.log_metrics(flat_metrics(results), 0)
        for test in results:
            run.log_artifact(output / test)
        clean = with_manifest_columns(read_predictions(output / "clean" / "predictions.csv", classifier.classes), frame)
        tables = {classifier.method: clean}
        shipped = {classifier.method: classifier.temperature} if classifier.temperature != 1 else {}
        study = judge_tables(tables, classifier.classes, validation, config.settings(), audit, shipped)
        galleries = {path.stem.replace("_", " "): path for path in sorted((output / "clean").glob("heatmaps*.png"))}
        leave_study(run, output, study, tables, galleries)
    return results_table(results)


def leave_study(
    run: Run, output: Path, study: Study, tables: Mapping[str, pd.DataFrame], galleries: Mapping[str, Path]
) -> None:
    """Writes the report into the folder, made if missing, and logs it."""
    output.mkdir(parents=True, exist_ok=True)
    write_study(output, study, tables, galleries)
    run.log_metrics(study_metrics(study), 0)
    for name in FILES:
        run.log_artifact(output / name)


def named_tables(given: Mapping[str, str] | Sequence[str] | str | None) -> dict[str, str]:
    """Model to the file of its table; files without a name take that of the file, which must differ."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    files = [given] if isinstance(given, str) else list(given)
    named = {Path(file).stem: file for file in files}
    if not files or len(named) < len(files):
        raise InputError(
            f"{files}: give tables of different file names, or name them, as {{isnet: a.csv, plain: b.csv}}"
        )
    return named


def _validation(config: EvaluateConfig, classes: Sequence[str], models: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The validation tables by model: by their names where they have some, else in the order of the models."""
    if config.validation is None:
        return {}
    given = config.validation
    files = [given] if isinstance(given, str) else given
    named = dict(files) if isinstance(files, Mapping) else dict(zip(models, files, strict=False))
    if set(named) != set(models) or len(files) != len(models):
        raise InputError(f"validation is {config.validation}: give a table for each of {list(models)}, in their order")
    manifest = _listed(config.manifest)
    return {name: read_tables({name: file}, classes, manifest)[1][name] for name, file in named.items()}


def _listed(manifests: Sequence[str]) -> pd.DataFrame | None:
    """The rows of manifests whose images need not be there."""
    if not manifests:
        return None
    frames = []
    for path in manifests:
        frame, problems = inspect_manifest(path)
        refuse(problems)
        frames.append(frame)
    return join_tables(manifests, frames).reset_index(drop=True)


def _audit(path: str | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}. Name an audit.json of the shortcut audit") from error
    if not isinstance(content, dict) or not {"model", "verdict", "examinations"} <= content.keys():
        raise InputError(
            f"{path}: lacks 'model', 'verdict' or 'examinations'. Name an audit.json of the shortcut audit"
        )
    return content


def explain(config: ExplainConfig) -> str:
    """Draws the maps of every class for each image, once all could be read; returns the pictures' paths, one a line."""
    classifier = Classifier.load(config.model, config.device.found())
    output = output_folder(config.output, may_hold=True)
    images = [prepare_image(read_image(path), classifier.image) for path in config.images]
    lrp = LRP(classifier.network)
    written = []
    output.mkdir(parents=True, exist_ok=True)
    for path, image in zip(config.images, images, strict=True):
        with torch.no_grad():
            logits, relevance = lrp(image[None].to(classifier.device))
        probability = logits.softmax(1)[0].cpu()
        case = HeatmapCase(
            image=image[0].numpy(),
            mask=None,
            maps=relevance.image[0, :, 0].cpu().numpy(),
            map_names=classifier.classes,
            label="",
            predicted=classifier.classes[int(probability.argmax())],
            probability=float(probability.max()),
            path=path,
        )
        file = output / _picture_name(path)
        heatmap_gallery([case], classifier.classes).savefig(file)
        written.append(str(file))
    return "\n".join(written)


def _picture_name(path: str) -> str:
    return f"{file_slug(Path(path).name)}.heatmaps.png"


def flat_metrics(results: TestResults) -> dict[str, float]:
    """Every number of every test and site by a dotted name, as MLflow takes them."""
    return {
        f"{test}.{site}.{name}": value
        for test, sites in results.items()
        for site, result in sites.items()
        for name, value in result.metrics().items()
    }


def results_table(results: TestResults) -> str:
    """A line per test and site: n, AUC and accuracy with their intervals, share of relevance in the lungs."""
    lines = [f"{'test':<8} {'site':<32} {'n':>5}  {'AUC (95% interval)':<22} {'accuracy':<22} relevance in lungs"]
    for test, sites in results.items():
        for site, r in sites.items():
            auc, accuracy = (f"{e.value:.3f} ({e.low:.3f}-{e.high:.3f})" for e in (r.auc, r.accuracy))
            lines.append(
                f"{test:<8} {site:<32} {r.n_images:>5}  {auc:<22} {accuracy:<22} {r.relevance_in_lung.value:.3f}"
            )
    return "\n".join(lines)
