"""Images of the hospitals that a model was trained on: what tells their classes apart without the lungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_isnet.audit.audit_set import AuditSet, load_audit_set
from cxr_isnet.config import parse_settings, read_yaml
from cxr_isnet.data import ImposedChange, MarkConfig, blur, dilate
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import FloatArray, hand_till_auc
from cxr_isnet.manifests import read_manifests

CONFIG, VALIDATION = "config.yaml", Path("validation") / "clean" / "predictions.csv"
"""Beside a checkpoint: what its training was given, and the predictions of the patients that it held out."""

NEARLY_ONE = 0.85
"""AUC of the hospital alone, above which it and the class are nearly one; 85% and 15% ill in two hospitals have it."""
LEAST_MASKED = 0.5
"""Share of a class's training images with a lung mask, below which what is not looked at may be another hospital."""
MOST_NAMED = 6

CELLS = 8
RIDGE = 0.3


@dataclass(frozen=True)
class TrainingImages:
    """Images of the training hospitals, with the marks that the training planted.

    Attributes:
        seen: Of patients whom the training may have seen; None where there are none.
        held_out: Of patients whom it did not see; None where they are not known, or too few.
        missing: Why `seen` is None; "" where it is not.
        left_open: What no image can answer, by the manifests alone: sentences.
    """

    seen: AuditSet | None
    held_out: AuditSet | None = None
    missing: str = ""
    left_open: tuple[str, ...] = ()


def load_training_images(
    model: str,
    manifests: Sequence[str] | None,
    classes: Sequence[str],
    size: int,
    *,
    most_images: int,
    seed: int = 0,
) -> TrainingImages:
    """Read the images of the training hospitals that have a lung mask.

    Args:
        model: Checkpoint or URI; a checkpoint's folder says what it was trained on.
        manifests: Of the training hospitals; None takes those that the training's folder names, an empty list none.
        classes: Names of the classes, in the order of the model's outputs.
        size: Rows and columns of the images.
        most_images: Larger manifests are sampled down to this.
        seed: Of the sampling.

    Raises:
        InputError: Manifests that were named cannot be used.
    """
    folder = Path(model).parent if Path(model).is_file() else None
    settings = _settings(folder) if manifests is None and folder is not None else {}
    named = list(settings.get("training") or []) if manifests is None else list(manifests)
    if not named:
        return TrainingImages(
            None, missing="no manifests of the training hospitals are known; name them with --training"
        )
    left_open: tuple[str, ...] = ()
    try:
        mark = settings.get("mark")
        frame = read_manifests(named, classes=classes)
        left_open = _left_open(frame)
        return _loaded(
            frame, _held_out(folder, frame), classes, size, most_images, seed,
            None if mark is None else parse_settings(mark, MarkConfig, "mark"), left_open,
        )  # fmt: skip
    except (InputError, ValueError) as error:  # ValueError: a mark of another version's config
        if manifests is not None:
            raise
        return TrainingImages(None, None, f"the images of the training hospitals cannot be read ({error})", left_open)


def _left_open(frame: pd.DataFrame) -> tuple[str, ...]:
    """What the rows of the training manifests leave open, whatever their images show."""
    sentences = []
    labels, names = pd.factorize(frame["label"], sort=True)
    shares = pd.crosstab(frame["site"], frame["label"], normalize="index").reindex(columns=names)
    by_hospital = hand_till_auc(labels.astype(np.int64), shares.loc[frame["site"]].to_numpy(dtype=np.float64))
    if by_hospital > NEARLY_ONE:
        parts = [
            f"{site} {', '.join(f'{share:.0%} {n}' for n, share in row.items())}" for site, row in shares.iterrows()
        ]
        sentences.append(
            f"class and hospital are nearly one ({'; '.join(parts[:MOST_NAMED])}): the hospital alone tells the "
            f"classes with an AUC of {by_hospital:.2f}, and no image shows which of the two the model has learned"
        )
    masked = (frame["mask"] != "").groupby(frame["label"]).mean()
    few = [f"{share:.0%} of '{label}'" for label, share in masked.items() if share < LEAST_MASKED]
    if few:
        sentences.append(
            f"{' and '.join(few)} have a lung mask, and no others were looked at: complete the manifests with "
            "`cxr-isnet segment predict`, and name those with --training"
        )
    return tuple(sentences)


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_yaml(folder / CONFIG)["data"])
    except (KeyError, TypeError, ValueError):
        return {}


def _held_out(folder: Path | None, frame: pd.DataFrame) -> pd.Series:
    """Whether a row's patient was held out, as far as the training's folder says so."""
    if folder is None or not (folder / VALIDATION).is_file():
        return pd.Series(False, index=frame.index)
    paths = pd.read_csv(folder / VALIDATION, usecols=["path"], dtype=str)["path"]
    return frame["image"].isin(set(paths))


def _loaded(
    frame: pd.DataFrame,
    held_out: pd.Series,
    classes: Sequence[str],
    size: int,
    most_images: int,
    seed: int,
    mark: MarkConfig | None,
    left_open: tuple[str, ...],
) -> TrainingImages:
    def load(rows: pd.DataFrame) -> AuditSet:
        return load_audit_set(rows.reset_index(drop=True), classes, size, mark=mark, most_images=most_images, seed=seed)

    seen = load(frame[~held_out] if held_out.any() else frame)
    try:
        return TrainingImages(seen, load(frame[held_out]) if held_out.any() else None, left_open=left_open)
    except InputError:  # too few patients, or one class
        return TrainingImages(seen, left_open=left_open)


def background_features(images: Tensor, masks: Tensor) -> FloatArray:
    """What the background looks like, the lungs hidden: (N, F).

    Mean grey and fine detail (energy of the difference to a blur, as its logarithm) of cells of an eighth of the side,
    and quantiles of the grey values.
    """
    hidden = dilate(masks) > 0
    detail = (images - blur(images, masks, 1.0)) ** 2
    greys = torch.where(hidden, images.mean(), images)
    detail = torch.where(hidden, torch.zeros_like(detail), detail)
    levels = torch.quantile(greys.flatten(1), torch.tensor([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]), dim=1).T
    cells = [F.adaptive_avg_pool2d(values, CELLS).flatten(1) for values in (greys, detail)]
    found = torch.cat([cells[0], torch.log(cells[1] + 1e-6), levels], dim=1)
    return np.asarray(found.double().numpy())


class Resemblance:
    """How much the background of an image looks as if a change had been imposed on it.

    A linear discriminant between images as they are and the same images changed, on `background_features`.
    """

    def __init__(self, data: AuditSet) -> None:
        """Measures the backgrounds of images once."""
        self._data = data
        self._plain = background_features(data.images, data.masks)

    def __call__(self, change: ImposedChange) -> FloatArray:
        """Score (N,) of every image, higher for more alike."""
        changed = background_features(change.apply(self._data.images, self._data.masks), self._data.masks)
        both = np.concatenate([self._plain, changed])
        scale = both.std(0) + 1e-6
        standard = (both - both.mean(0)) / scale
        spread = np.cov(standard.T) + RIDGE * np.eye(standard.shape[1])
        weights = np.linalg.solve(spread, ((changed - self._plain) / scale).mean(0))
        return np.asarray(standard[: len(self._plain)] @ weights)
