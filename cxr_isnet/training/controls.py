"""Controls of a study: classifiers that see no lungs. What they reach, a shortcut reaches.

A logistic regression on a thumbnail, on the image's border or on the shape of the lung mask is trained on the images
of a study and evaluated as every method is. An AUC is to be read beside theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cxr_isnet.data import make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import FloatArray, TrainingTables, check_predictions, probability_columns
from cxr_isnet.inference import Condition, conditions
from cxr_isnet.training.config import DataConfig
from cxr_isnet.training.partitions import Partitions

SIDE = 16
"""Rows and columns of the thumbnail."""

BORDER = 2
"""Cells of the thumbnail at each edge that are the border: an eighth of the image at each side."""

_STRENGTH = 0.01
"""Inverse of the regularisation: chosen once, weak enough for no warning, strong for a few hundred images."""


@dataclass(frozen=True)
class Control:
    """One control.

    Attributes:
        name: In tables.
        about: What it sees, in words.
        features: Image and mask (1, H, W) to a vector.
        needs_mask: It sees the mask, so that images without one count nowhere in it.
    """

    name: str
    about: str
    features: Callable[[Tensor, Tensor], Tensor]
    needs_mask: bool = False


def _cells(image: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(image[None], SIDE)[0, 0]


def _thumbnail(image: Tensor, mask: Tensor) -> Tensor:
    quantiles = torch.quantile(image.flatten(), torch.tensor([0.05, 0.5, 0.95]))
    return torch.cat([_cells(image).flatten(), image.mean()[None], image.std()[None], quantiles])


def _border(image: Tensor, mask: Tensor) -> Tensor:
    inner = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return _cells(image)[~inner]


def _mask_shape(image: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([_cells(mask).flatten(), mask.mean()[None]])


THUMBNAIL = Control("thumbnail", f"{SIDE} x {SIDE} pixels and five statistics of the grey values", _thumbnail)
CONTROLS: tuple[Control, ...] = (
    THUMBNAIL,
    Control("border", "the outer eighth of the image at each side", _border),
    Control("mask_shape", "the lung mask without the image", _mask_shape, needs_mask=True),
)
"""All controls. A new one is an entry here."""


def control_tables(control: Control, data: DataConfig, partitions: Partitions) -> TrainingTables | None:
    """Fits a control to the training images, marked as in training, and predicts the validation and external ones.

    Args:
        control: Which.
        data: Classes, image settings and planted marks.
        partitions: Rows by role; there are external ones.

    Returns:
        The tables, of external images in every condition; None where the images that the control can see do not cover
        all classes.

    Raises:
        InputError: There are no external rows.
    """
    if partitions.external is None:
        raise InputError("data.external is empty: a control needs the manifest of at least one external site")
    tested = conditions(data.mark)
    training, validation, external = (
        frame[frame["mask"] != ""].reset_index(drop=True) if control.needs_mask else frame
        for frame in (partitions.training, partitions.validation, partitions.external)
    )
    if external.empty or any(set(data.classes) - set(frame["label"]) for frame in (training, validation)):
        return None
    features, labels = _features(control, data, training, tested[0])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=2000)).fit(features, labels)

    def predicted(frame: pd.DataFrame, condition: Condition) -> pd.DataFrame:
        seen, _ = _features(control, data, frame, condition)
        return _table(control, data, frame, model.predict_proba(seen))

    return TrainingTables(
        {"clean": predicted(validation, Condition())},
        {condition.name: predicted(external, condition) for condition in tested},
    )


def _features(control: Control, data: DataConfig, frame: pd.DataFrame, condition: Condition) -> tuple[FloatArray, Any]:
    dataset = make_dataset(frame, data.classes, data.image, mark=condition.mark, mode=condition.mode, cache=False)
    rows = []
    for place in range(len(dataset)):
        item = dataset[place]
        rows.append(control.features(item["image"], item["mask"]))
    return torch.stack(rows).double().numpy(), dataset.labels.numpy()


def _table(control: Control, data: DataConfig, frame: pd.DataFrame, scores: FloatArray) -> pd.DataFrame:
    columns = {name: frame[name].astype(str).tolist() for name in ("patient_id", "site", "label")}
    table = pd.DataFrame({"path": frame["image"].astype(str).tolist(), **columns, "model_uri": control.name})
    table[probability_columns(data.classes)] = np.asarray(scores, dtype=np.float64)
    return check_predictions(table, data.classes, source=control.name)
