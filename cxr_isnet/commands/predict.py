"""`cxr-isnet predict`: images, folders or manifests to a predictions table with one row for each input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr_isnet.engine import Device
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import ERROR_COLUMN, probability_columns, write_predictions
from cxr_isnet.files import atomic_write
from cxr_isnet.inference import Classifier, files_frame, predict_manifest
from cxr_isnet.manifests import MAPPING_SUFFIXES, TABLE_SUFFIXES, inspect_manifest, join_tables, raise_first
from cxr_isnet.objectives import Explanation


@dataclass(frozen=True)
class PredictConfig:
    """Predictions of a trained classifier.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder.
        inputs: X-rays (PNG, JPEG or DICOM), folders of them, or manifests (.csv, .parquet, .yaml).
        output: Table to write, .csv or .parquet; replaced if it is there. A row for each image: probabilities, or the
            reason in column `error`; of manifests also their columns, so that `cxr-isnet evaluate` reads it.
        explainer: How the share of relevance in the lungs is computed where there is a mask: `lrp`, `input_gradient`,
            `grad_cam`, `attention` or `none`; null takes the method's own way.
        calibrated: Gives the probabilities with the temperature that was fitted on validation.
        batch_size: Images at a time.
        workers: Reading processes; 0 reads in the predicting process.
        device: Where.
        trust: Allows the checkpoint to name a method or network that is defined outside cxr-isnet, which is code.
    """

    model: str
    inputs: list[str]
    output: str
    explainer: Explanation | None = None
    calibrated: bool = False
    batch_size: int = 16
    workers: int = 0
    device: Device = Device.AUTO
    trust: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise InputError(f"batch_size is {self.batch_size} and workers {self.workers}: at least 1 and 0 are needed")
        if Path(self.output).suffix.lower() not in TABLE_SUFFIXES:
            raise InputError(f"output is '{self.output}': name a table that ends in .csv or .parquet")


def predict(config: PredictConfig) -> tuple[str, int]:
    """Predicts and writes the table; returns a summary and the exit status, 1 where an image could not be read.

    Raises:
        InputError: The model or a manifest cannot be used, or there is no image.
    """
    output = Path(config.output)
    if not output.absolute().parent.is_dir():
        raise InputError(f"output is '{output}': its folder does not exist. Make it, or name another")
    classifier = Classifier.load(config.model, config.device.found(), trust=config.trust)
    table = predict_manifest(
        classifier,
        read_inputs(config.inputs),
        model_uri=config.model,
        batch_size=config.batch_size,
        workers=config.workers,
        explanation=config.explainer,
        calibrated=config.calibrated,
    )
    if output.suffix.lower() == ".parquet":
        with atomic_write(output) as partial:
            table.to_parquet(partial, index=False)
    else:
        write_predictions(table, output)
    return _summary(table, classifier.classes, output)


def read_inputs(inputs: Sequence[str]) -> pd.DataFrame:
    """Rows for every image that the inputs name, as `predict_manifest` takes them.

    Args:
        inputs: Image files; folders, all files beneath which are taken in the order of their names; or manifests, whose
            images need not be there. Manifests and files do not mix.

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
    files = [file for path in inputs for file in _files_of(Path(path))]
    if not files:
        raise InputError(f"inputs: {', '.join(inputs) or 'none given'}: no file. Name images, folders or manifests")
    return files_frame(list(dict.fromkeys(files)))


def _files_of(path: Path) -> list[str]:
    if not path.is_dir():
        return [str(path)]  # one that is not there gets a row that says so
    found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted(file for file in found if not Path(file).name.startswith("."))


def _summary(table: pd.DataFrame, classes: Sequence[str], output: Path) -> tuple[str, int]:
    failed = table[ERROR_COLUMN] != ""
    most = table.loc[~failed, probability_columns(classes)].to_numpy().argmax(1) if (~failed).any() else []
    counts = pd.Series([classes[index] for index in most], dtype=str).value_counts()
    lines = [f"{output}: {len(table)} images, {int(failed.sum())} could not be predicted (column '{ERROR_COLUMN}')"]
    lines += [f"  most probable {name}: {int(counts.get(name, 0))}" for name in classes]
    return "\n".join(lines), int(failed.any())
