"""`cxr-isnet predict`: images, folders or manifests to a predictions table with one row for each input."""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial as partial_of
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from cxr_isnet.deployment import (
    DicomResults,
    ScoringConfig,
    load_classifier,
    local_scorer,
    parts_of,
    ray_scorer,
    score_archive,
)
from cxr_isnet.engine import Device
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import ERROR_COLUMN, DecisionRule, probability_columns, with_temperature, write_predictions
from cxr_isnet.files import atomic_write, output_folder
from cxr_isnet.inference import Classifier, files_frame
from cxr_isnet.manifests import (
    MAPPING_SUFFIXES,
    file_digest,
    inspect_manifest,
    join_tables,
    raise_first,
)
from cxr_isnet.objectives import Explanation
from cxr_isnet.segmentation import Segmenter, find_lungs
from cxr_isnet.tables import TABLE_SUFFIXES, WRITTEN_SUFFIXES, check_replaceable
from cxr_isnet.tracking import TrackingConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictConfig:
    """Predictions of a trained classifier.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder, or a model of MLflow (`models:/NAME@champion`, a folder).
        inputs: X-rays (PNG, JPEG or DICOM), folders of them, patterns such as '/archive/**/*.dcm', or manifests (.csv,
            .parquet, .yaml).
        output: Table to write, .csv or .parquet; replaces one of predictions if it is there. A row for each image:
            probabilities, or the reason in column `error`; of manifests also their columns, so that `cxr-isnet
            evaluate` reads it. What was killed goes on when the same command is given again.
        dicom_results: Folder for DICOM objects that go back to the archive: of every DICOM file a structured report, a
            heatmap and, with a segmenter, the lungs, in the study that it is of; made if missing. Null for none.
        segmenter: Segmenter `best.pt` of `segment train`, for the lungs in DICOM results; null for none.
        threshold: Of two classes, DICOM results decide for the second from this probability on; null takes the
            model's own, which its validation set, or the most probable class where it has none.
        ray: Address of a Ray cluster that predicts, as `ray://host:10001` or `auto`; `local` starts one. Null predicts
            in this process.
        explainer: How the share of relevance in the lungs is computed where there is a mask: `lrp`, `input_gradient`,
            `grad_cam`, `attention` or `none`; null takes the method's own way.
        calibrated: Gives the probabilities with the temperature that was fitted on validation.
        batch_size: Images at a time.
        workers: Processes that read ahead; 0 reads in the predicting process, which a crashing decoder would end.
        device: Where.
        trust: Allows the checkpoint to name a method or network that is defined outside cxr-isnet, which is code.
        tracking: MLflow, where a model of it lies.
    """

    model: str
    inputs: list[str]
    output: str
    dicom_results: str | None = None
    segmenter: str | None = None
    threshold: float | None = None
    ray: str | None = None
    explainer: Explanation | None = None
    calibrated: bool = False
    batch_size: int = 16
    workers: int = 0
    device: Device = Device.AUTO
    trust: bool = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise InputError(f"batch_size is {self.batch_size} and workers {self.workers}: at least 1 and 0 are needed")
        if Path(self.output).suffix.lower() not in WRITTEN_SUFFIXES:
            raise InputError(f"output is '{self.output}': name a table that ends in .csv or .parquet")
        if self.segmenter is not None and self.dicom_results is None:
            raise InputError("segmenter is given, dicom_results is not: the lungs are part of the DICOM results")


def predict(config: PredictConfig) -> tuple[str, int]:
    """Predicts and writes the table; returns a summary and the exit status, 1 where an image could not be read.

    Raises:
        InputError: The model or a manifest cannot be used, or there is no image.
    """
    output = Path(config.output)
    if not output.absolute().parent.is_dir():
        raise InputError(f"output is '{output}': its folder does not exist. Make it, or name another")
    check_replaceable(output, ("path",), "a table of predictions")
    device = config.device.found()
    classifier = load_classifier(config.model, config.tracking.uri, device, trust=config.trust)
    classifier.explainer(config.explainer)  # raises before anything is written
    results = folder = None
    if config.dicom_results is not None:
        results = dicom_results(config, classifier)
        folder = output_folder(config.dicom_results, may_hold=True)
        folder.mkdir(parents=True, exist_ok=True)
    frame = read_inputs(config.inputs)
    scoring = ScoringConfig(config.model, config.batch_size, config.workers, config.explainer, config.calibrated)
    scorer = local_scorer(classifier, scoring) if config.ray is None else ray_scorer(classifier, scoring, config.ray)
    identity = {
        "model": classifier.digest(),
        "segmenter": None if config.segmenter is None else file_digest(config.segmenter),
        **{name: getattr(config, name) for name in ("calibrated", "explainer", "dicom_results", "threshold")},
    }
    begun = time.perf_counter()
    with parts_of(output) as parts:
        table = score_archive(
            frame, parts, scorer, identity, batch_size=config.batch_size, results=results, results_folder=folder
        )
        seconds = time.perf_counter() - begun
        if output.suffix.lower() == ".parquet":
            with atomic_write(output) as partial:
                table.to_parquet(partial, index=False)
        else:
            write_predictions(table, output)
    logger.info("%d images in %.1f s: %.1f images a second", len(table), seconds, len(table) / seconds)
    return _summary(table, classifier, output, calibrated=config.calibrated)


class ResultSettings(Protocol):
    """Settings that decide what DICOM results say."""

    @property
    def segmenter(self) -> str | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def explainer(self) -> Explanation | None: ...


def dicom_results(config: ResultSettings, classifier: Classifier) -> DicomResults:
    """What makes the DICOM results of a classifier.

    Raises:
        InputError: The segmenter cannot be read, more than two classes have a threshold, or highdicom is missing.
    """
    if config.threshold is not None and not (len(classifier.classes) == 2 and 0 <= config.threshold <= 1):
        raise InputError(
            f"threshold is {config.threshold}, the classes are {', '.join(classifier.classes)}: give a probability, "
            "and only for two classes"
        )
    threshold = classifier.threshold if config.threshold is None else config.threshold
    origin = "given" if config.threshold is not None else "fitted on validation, shipped with the model"
    rule = DecisionRule() if threshold is None else DecisionRule(threshold, origin)
    name = f"{classifier.method} ({classifier.digest()[:12]})"
    lungs = None
    if config.segmenter is not None:
        lungs = partial_of(find_lungs, Segmenter.load(config.segmenter, classifier.device))
    return DicomResults(classifier, name, rule, config.explainer, lungs)


def read_inputs(inputs: Sequence[str]) -> pd.DataFrame:
    """Rows for every image that the inputs name, as `predict_manifest` takes them.

    Args:
        inputs: Image files; folders, all files beneath which are taken in the order of their names; patterns, as the
            shell has them, `**` for any folders; or manifests, whose images need not be there. Manifests and files do
            not mix.

    Raises:
        InputError: A manifest cannot be read, there is no such folder or file, or no image.
    """
    tables = [path for path in inputs if Path(path).suffix.lower() in (*TABLE_SUFFIXES, *MAPPING_SUFFIXES)]
    if tables and len(tables) < len(inputs):
        other = next(path for path in inputs if path not in tables)
        raise InputError(f"inputs: {tables[0]} is a manifest and {other} is none: predict them one after the other")
    if tables:
        frames = []
        for path in tables:
            frame, problems = inspect_manifest(path)
            raise_first(problems)
            frames.append(frame)
        return join_tables(tables, frames).reset_index(drop=True)
    return files_frame(named_files("inputs", inputs))


def named_files(setting: str, inputs: Sequence[str]) -> list[str]:
    """Every file that names, folders and patterns mean, once.

    Raises:
        InputError: There is none; begins with the name of the setting.
    """
    files = [file for path in inputs for file in _files_of(Path(path))]
    if not files:
        raise InputError(f"{setting}: {', '.join(inputs) or 'none given'}: no file. Name images, folders or patterns")
    return list(dict.fromkeys(files))


def _files_of(path: Path) -> list[str]:
    if not path.is_dir():
        if not path.exists() and glob.has_magic(str(path)):
            return sorted(file for file in glob.glob(str(path), recursive=True) if os.path.isfile(file))
        return [str(path)]  # one that is not there gets a row that says so
    found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted(file for file in found if not Path(file).name.startswith("."))


def _summary(table: pd.DataFrame, classifier: Classifier, output: Path, *, calibrated: bool) -> tuple[str, int]:
    failed = table[ERROR_COLUMN] != ""
    scores = table.loc[~failed, probability_columns(classifier.classes)].to_numpy(np.float64)
    own = with_temperature(scores, 1 / classifier.temperature) if calibrated else scores
    counts = np.bincount(classifier.decide(own), minlength=len(classifier.classes))
    lines = [f"{output}: {len(table)} images, {int(failed.sum())} could not be predicted (column '{ERROR_COLUMN}')"]
    if classifier.threshold is None:
        lines += [f"  most probable {name}: {n}" for name, n in zip(classifier.classes, counts, strict=True)]
    else:
        lines += [f"  decision {name}: {n}" for name, n in zip(classifier.classes, counts, strict=True)]
        lines.append(f"  ({classifier.decision.rule.origin})")
    return "\n".join(lines), int(failed.any())
