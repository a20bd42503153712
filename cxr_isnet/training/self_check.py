"""The self-check at the end of a training: on validation images, does the network read the background?

It costs a few predictions of the validation images and takes no external image. It finds what it looks for and no
more; `cxr-isnet audit` asks further questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cxr_isnet.data import MarkConfig, MarkMode, make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import (
    Interval,
    PatientBootstrap,
    Settings,
    WeightedMean,
    evaluate_site,
    interval_text,
    probability_columns,
    relevance_excess,
)
from cxr_isnet.inference import Classifier

READS_MARK = 0.1
"""Change of the probabilities (total variation distance) from which a planted mark counts as read."""


@dataclass(frozen=True)
class SelfCheck:
    """What a network does on validation images that have a lung mask.

    Attributes:
        images: How many there are.
        background_auc: AUC with the lungs blackened, and with the mark of the class where marks were planted in
            training: what the background alone tells this network.
        relevance_excess: Share of the relevance in the lungs minus the lungs' share of the image, mean.
        mark_change: Mean change of the probabilities when the planted mark of the image's class is replaced by another
            class's: half the sum of the absolute changes; NaN where the lungs leave no room.
        sign: Whether any of them is a sign of a shortcut.
        sentences: The same in words.
    """

    images: int
    background_auc: Interval
    relevance_excess: Interval
    mark_change: float
    sign: bool
    sentences: tuple[str, ...]

    def flat(self) -> dict[str, float]:
        """The numbers by name."""
        return {
            "images": float(self.images),
            "background_auc": self.background_auc.estimate,
            "relevance_excess": self.relevance_excess.estimate,
            "mark_change": self.mark_change,
            "sign_of_a_shortcut": float(self.sign),
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "images": self.images,
            "background_auc": self.background_auc.to_dict(),
            "relevance_excess": self.relevance_excess.to_dict(),
            "mark_change": self.mark_change if math.isfinite(self.mark_change) else None,
            "sign_of_a_shortcut": self.sign,
            "sentences": list(self.sentences),
        }


def self_check(
    classifier: Classifier,
    frame: pd.DataFrame,
    predictions: pd.DataFrame,
    mark: MarkConfig | None,
    settings: Settings,
) -> SelfCheck | None:
    """Checks a network on validation images.

    Args:
        classifier: The trained classifier.
        frame: Rows of the validation images.
        predictions: Their checked predictions table, without marks, in the same order.
        mark: The mark that was planted in training; None plants the default one.
        settings: Resamples and seed of the intervals.

    Returns:
        None where no image has a lung mask, or those that have do not cover two classes.
    """
    masked = (frame["mask"] != "").to_numpy()
    frame, predictions = frame[masked].reset_index(drop=True), predictions[masked].reset_index(drop=True)
    if frame["label"].nunique() < 2:
        return None
    hidden = predictions.copy()
    hidden[probability_columns(classifier.classes)] = _probabilities(
        classifier,
        frame,
        MarkMode.NONE if mark is None else MarkMode.BIASED,
        mark,
        lambda images, masks: images * (1 - masks),
    )
    background = evaluate_site(hidden, classifier.classes, resamples=settings.resamples, seed=settings.seed)
    excess = _excess(predictions, settings)
    change = _mark_change(classifier, frame, mark or MarkConfig())
    return _in_words(len(frame), background.metrics["auc"], excess, change, trained_with_marks=mark is not None)


def _probabilities(
    classifier: Classifier,
    frame: pd.DataFrame,
    mode: MarkMode,
    mark: MarkConfig | None,
    change: Callable[[Tensor, Tensor], Tensor] = lambda images, masks: images,
) -> np.ndarray[Any, Any]:
    dataset = make_dataset(frame, classifier.classes, classifier.image, mark=mark, mode=mode, cache=False)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=16)
    parts = [classifier.probabilities(change(batch["image"], batch["mask"])) for batch in loader]
    return torch.cat(parts).double().numpy()


def _mark_change(classifier: Classifier, frame: pd.DataFrame, mark: MarkConfig) -> float:
    try:
        own, other = (_probabilities(classifier, frame, m, mark) for m in (MarkMode.BIASED, MarkMode.SWAPPED))
    except InputError:
        return math.nan
    return float(np.abs(own - other).sum(1).mean() / 2)


def _excess(predictions: pd.DataFrame, settings: Settings) -> Interval:
    bootstrap = PatientBootstrap.of(predictions, resamples=settings.resamples, seed=settings.seed)
    return bootstrap.intervals({"excess": WeightedMean(relevance_excess(predictions))})["excess"]


def _in_words(
    images: int, background: Interval, excess: Interval, change: float, *, trained_with_marks: bool
) -> SelfCheck:
    reads_background = (background.low if math.isfinite(background.low) else background.estimate) > 0.5
    unfocused = math.isfinite(excess.estimate) and not excess.low > 0
    reads_mark = change > READS_MARK
    said = [
        f"With the lungs blackened its AUC is {interval_text(background)}: "
        + ("the background alone tells it the classes." if reads_background else "the background tells it little.")
    ]
    if math.isfinite(excess.estimate):
        said.append(
            f"The lungs hold {interval_text(excess)} more of the relevance than their share of the image"
            + (", which is no more than by chance." if unfocused else ".")
        )
    if math.isfinite(change):
        kind = "the mark that it was trained with" if trained_with_marks else "a mark that it never saw in training"
        said.append(
            f"Another class's mark in place of the own one changes its probabilities by {change:.3f} ({kind}): "
            + ("it reads the mark." if reads_mark else "it does not read the mark.")
        )
    sign = reads_background or unfocused or reads_mark
    verdict = "a sign of a shortcut" if sign else "no sign of a shortcut among those looked for"
    said.insert(0, f"Self-check on {images} validation images: {verdict}.")
    return SelfCheck(images, background, excess, change, sign, tuple(said))
