"""Controls: classifiers that see no lungs. What they reach, a shortcut reaches, and an AUC is to be read beside theirs.

A logistic regression on a thumbnail, on the image's outer ring or on the shape of the lung mask. Checks of manifests
use them on images as they are stored; a training and its evaluation on images as the network gets them
(`cxr_isnet.inference.FittedControls`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_isnet.evaluation.confusion import FloatArray, IntArray

SIDE = 16
"""Rows and columns of the thumbnail."""

RING = 2
"""Cells of the thumbnail at each edge that are its outer ring: an eighth of the image at each side."""

FOLDS = 5
"""Parts of a cross-validation."""

MIN_PATIENTS = FOLDS
"""Fewest patients of a class to learn from: one for each fold."""

_PERCENTILES = (5, 50, 95)
_PIXELS = SIDE * SIDE
_STATISTICS = 2 + len(_PERCENTILES)
_REGULARISATION = 0.03
"""Inverse strength of the L2 penalty on standardised features. Of 0.001 to 1, this is where the thumbnail does best by
cross-validation within Shenzhen: a control should not fail for want of care."""

Predict = Callable[[FloatArray], FloatArray]
"""From features (N, F) to probabilities (N, C)."""


@dataclass(frozen=True)
class Control:
    """A control.

    Attributes:
        name: in tables.
        about: what it sees, in words.
        columns: which it sees of `image_features` followed by `mask_features`.
    """

    name: str
    about: str
    columns: IntArray = field(repr=False)

    def sees(self, features: FloatArray) -> NDArray[np.bool_]:
        """Rows (N,) that have all that it looks at: those with a mask, for what needs one."""
        return np.asarray(np.isfinite(features[:, self.columns]).all(axis=1))


_ring = np.ones((SIDE, SIDE), dtype=bool)
_ring[RING:-RING, RING:-RING] = False

THUMBNAIL = Control(
    "thumbnail",
    f"{SIDE} x {SIDE} pixels and {_STATISTICS} statistics of the grey values",
    np.arange(_PIXELS + _STATISTICS),
)
CONTROLS: tuple[Control, ...] = (
    THUMBNAIL,
    Control(
        "border", f"the outer ring of the thumbnail, 1/{SIDE // RING} of the image at each side", np.flatnonzero(_ring)
    ),
    Control(
        "mask_shape",
        "the lung mask without the image",
        np.arange(_PIXELS + _STATISTICS, 2 * _PIXELS + _STATISTICS + 1),
    ),
)
"""All controls. A new one is an entry here."""


def image_features(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """What controls see of an image.

    Args:
        image: (rows, columns) in [0, 1]; squeezed into a square.

    Returns:
        (261,): means of 16 x 16 cells; mean, standard deviation, 5th, 50th and 95th percentile.
    """
    statistics = [image.mean(), image.std(), *np.percentile(image, _PERCENTILES)]
    return np.append(_cells(image), statistics).astype(np.float32)


def mask_features(mask: NDArray[Any] | None) -> NDArray[np.float32]:
    """What controls see of a lung mask.

    Args:
        mask: (rows, columns) of 0 and 1; None without one.

    Returns:
        (257,): means of 16 x 16 cells, and the area; NaN without a mask or with an empty one.
    """
    if mask is None or not mask.any():
        return np.full(_PIXELS + 1, np.nan, dtype=np.float32)
    return np.append(_cells(mask), mask.mean()).astype(np.float32)


NO_MASK = mask_features(None)
"""What controls see where there is no mask."""


def _cells(image: NDArray[Any]) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()


def fit_control(control: Control, features: FloatArray, labels: IntArray, n_classes: int) -> Predict:
    """Fit a control.

    Args:
        control: which.
        features: (N, F) `image_features` followed by `mask_features`, of images that it sees.
        labels: (N,) index of the class.
        n_classes: C; a class without an image gets the probability 0.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_REGULARISATION, max_iter=3000))
    model.fit(features[:, control.columns].astype(np.float64), labels)

    def predict(others: FloatArray) -> FloatArray:
        found = np.zeros((len(others), n_classes))
        if len(others):
            found[:, model.classes_] = model.predict_proba(others[:, control.columns].astype(np.float64))
        return found

    return predict


def cross_validate(
    control: Control, features: FloatArray, labels: IntArray, patients: IntArray, n_classes: int
) -> FloatArray:
    """Probabilities (N, C) of every image by a control that was fitted to other patients.

    Args:
        control: which.
        features: (N, F), of images that it sees.
        labels: (N,) index of the class; every class has `MIN_PATIENTS` patients or more.
        patients: (N,) number of the patient.
        n_classes: C.
    """
    found = np.zeros((len(labels), n_classes))
    for seen, left_out in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(features, labels, patients):
        found[left_out] = fit_control(control, features[seen], labels[seen], n_classes)(features[left_out])
    return found
