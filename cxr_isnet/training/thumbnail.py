"""The thumbnail control: what a few coarse grey values tell of the label, without looking at any lung."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from cxr_isnet.data import ImageConfig, load_image
from cxr_isnet.evaluation import PROBABILITY_PREFIX

SIDE = 16
_READ_AT = 64
_STRENGTH = 0.01
"""Inverse weight of the penalty: there are as many grey values as images."""


def thumbnail_control(training: pd.DataFrame, other: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Predictions of a logistic regression on 16 x 16 thumbnails and five statistics of the grey values.

    Args:
        training: Manifest of the images that the model was trained on; the control is fitted on the same.
        other: Manifest of the images to predict.
        classes: Names of the classes.

    Returns:
        A predictions table of `other`, without relevance.
    """
    known = training[training["label"].isin(list(classes))]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))
    model.fit(_features(known), known["label"].to_numpy(dtype=str))
    found = model.predict_proba(_features(other))
    order = list(model.classes_)
    table = pd.DataFrame({"path": list(other["image"])})
    for column in ("patient_id", "site", "label"):
        table[column] = list(other[column])
    for name in classes:
        table[PROBABILITY_PREFIX + name] = found[:, order.index(name)] if name in order else 0.0
    return table.assign(model_uri="thumbnail control")


def _features(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    rows = []
    for path in tqdm(frame["image"], desc="thumbnail control", unit="image", disable=None):
        image = load_image(path, ImageConfig(size=_READ_AT, equalize=False))
        grey = image.double().numpy().ravel()
        thumbnail = adaptive_avg_pool2d(image, SIDE).double().numpy().ravel()
        statistics = [grey.mean(), grey.std(), *np.quantile(grey, (0.05, 0.5, 0.95))]
        rows.append(np.concatenate([thumbnail, statistics]))
    return np.stack(rows)
