"""The self-check at the end of a training: on validation images, does the network read the background?

It reads the validation images once, predicts each in a few changed forms, and takes no external image. It finds what it
looks for and no more; `cxr-isnet audit` asks further questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch.utils.data import Dataset

from cxr_isnet.data import ImageStore, MarkConfig, MarkMode, PlantMarkd, background_only, make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import (
    Interval,
    PatientBootstrap,
    Settings,
    WeightedMean,
    evaluate_site,
    interval_text,
    probabilities,
    probability_columns,
    relevance_excess,
)
from cxr_isnet.inference import Classifier, score

READS_MARK = 0.1
"""Change of the probabilities (total variation distance) from which a planted mark counts as read."""

UNCERTAIN = 0.7
"""AUC of the background from which an interval that reaches down to one half is too few images, not a little."""


@dataclass(frozen=True)
class SelfCheck:
    """What a network does on validation images that have a lung mask.

    Attributes:
        images: How many there are.
        background_auc: AUC with the lungs blackened, and with the mark of the class where marks were planted in
            training: what the background alone tells this network.
        relevance_excess: Share of the relevance in the lungs minus that of the same maps elsewhere in the image, mean.
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
    predictions: Mapping[str, pd.DataFrame],
    mark: MarkConfig | None,
    settings: Settings,
    store: ImageStore | None = None,
) -> SelfCheck | None:
    """Checks a network on validation images.

    Args:
        classifier: The trained classifier.
        frame: Rows of the validation images.
        predictions: Their checked predictions tables in the same order by condition: `clean`; and where training had
            marks, `biased` and `swapped`.
        mark: The mark that was planted in training; None plants the default one.
        settings: Resamples and seed of the intervals.
        store: Where the images are kept; None reads them.

    Returns:
        None where no image has a lung mask, or those that have do not cover two classes.
    """
    masked = (frame["mask"] != "").to_numpy()
    frame = frame[masked].reset_index(drop=True)
    tables = {name: table[masked].reset_index(drop=True) for name, table in predictions.items()}
    if frame["label"].nunique() < 2:
        return None
    count, own_and_other = len(classifier.classes), (MarkMode.BIASED, MarkMode.SWAPPED)
    planted: Form = dict if mark is None else PlantMarkd(mark, MarkMode.BIASED, count)
    forms: list[Form] = [lambda item: _without_lungs(planted(item))]
    if mark is None:
        with suppress(InputError):  # more classes than there are marks
            forms += [PlantMarkd(MarkConfig(), mode, count) for mode in own_and_other]
    dataset = make_dataset(frame, classifier.classes, classifier.image, store=store)
    found = score(classifier, _InForms(dataset, forms), title="self-check").probabilities()
    hidden, *marked = found.reshape(len(frame), len(forms), -1).swapaxes(0, 1)
    if mark is not None:
        marked = [probabilities(tables[mode.value], classifier.classes) for mode in own_and_other]
    table = tables["clean"].copy()
    table[probability_columns(classifier.classes)] = hidden
    table = table.iloc[np.flatnonzero(np.isfinite(hidden).all(1))]
    background = evaluate_site(table, classifier.classes, resamples=settings.resamples, seed=settings.seed)
    excess = _excess(tables["clean"], settings)
    change = np.abs(marked[0] - marked[1]).sum(1) / 2 if marked else np.zeros(0)
    change = change[np.isfinite(change)]  # NaN where the lungs leave no room for the mark
    mean = float(change.mean()) if len(change) else math.nan
    return _in_words(len(frame), background.metrics["auc"], excess, mean, trained_with_marks=mark is not None)


Form = Callable[[dict[Any, Any]], dict[Any, Any]]
"""An item of the data set to the item as the network is to see it."""


class _InForms(Dataset[dict[Any, Any]]):
    """Every image in several forms, one behind the other; read once where they are asked for in order."""

    def __init__(self, dataset: Dataset[Any], forms: Sequence[Form]) -> None:
        self._dataset = dataset
        self._forms = forms
        self._read: tuple[int, dict[Any, Any]] = (-1, {})

    def __len__(self) -> int:
        return len(self._dataset) * len(self._forms)  # type: ignore[arg-type] # every data set here has a length

    def __getitem__(self, place: int) -> dict[Any, Any]:
        index, form = divmod(place, len(self._forms))
        if self._read[0] != index:
            self._read = (index, self._dataset[index])
        return self._forms[form](dict(self._read[1]))


def _without_lungs(item: dict[Any, Any]) -> dict[Any, Any]:
    """An item with black lungs, and with them the rim into which blur carries what is in the lungs."""
    return {**item, "image": background_only(item["image"][None], item["mask"][None], 0.0)[0]}


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
        + (
            "the background alone tells it the classes."
            if reads_background
            else "too few images to say whether the background tells it the classes."
            if background.estimate >= UNCERTAIN
            else "the background tells it little."
        )
    ]
    if math.isfinite(excess.estimate):
        said.append(
            f"The lungs hold {interval_text(excess)} more of the relevance than where the same maps are moved about"
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
