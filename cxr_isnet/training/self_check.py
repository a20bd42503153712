"""The self-check at the end of a training: on validation images, does the network read the background?

It predicts each validation image in a few changed forms, and takes no external image. It finds what it
looks for and no more; `cxr-isnet audit` asks further questions. As the audit, it has three answers: of a network that
does not tell the classes apart on the images themselves, finding no shortcut means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from cxr_isnet.data import ImageStore, MarkConfig, MarkMode, PlantMarkd, background_only, make_dataset, paste_lungs
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import (
    HandTillAUC,
    Interval,
    PatientBootstrap,
    Settings,
    WeightedMean,
    evaluate_site,
    interval_text,
    label_indices,
    paired_difference,
    probabilities,
    probability_columns,
    relevance_excess,
)
from cxr_isnet.inference import Classifier, score

FOREIGN_DROP = 0.1
"""Drop of the AUC on the backgrounds of another class, to the upper end of its interval, that counts as a sign: the
seam between two images costs a little by itself."""

READS_MARK = 0.1
"""Change of the probabilities (total variation distance) from which a planted mark counts as read."""

MEAN_OF = 100
"""Images at most whose mean fills the lungs of a background."""

UNCERTAIN = 0.7
"""AUC of the background from which an interval that reaches down to one half is too few images, not a little."""


class SelfCheckVerdict(StrEnum):
    """What a self-check comes to.

    Attributes:
        SIGN: at least one of its numbers is a sign of a shortcut.
        NO_SIGN: none is, of a network that tells the classes apart, on its own backgrounds and on foreign ones.
        CANNOT_TELL: none is, but the network does not tell the classes apart, or the images are too few.
    """

    SIGN = "a sign of a shortcut"
    NO_SIGN = "no sign of a shortcut among those looked for"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class SelfCheck:
    """What a network does on validation images that have a lung mask.

    Attributes:
        images: How many there are.
        background_auc: AUC with the lungs blackened, and with the mark of the class where marks were planted in
            training: what the background alone tells this network.
        foreign_auc: AUC with the lungs of each image on the background of one of another class, by the class of the
            lungs. As high as on the images themselves where the network reads the lungs; below one half where it goes
            by the background.
        own_auc: AUC on the images themselves, to compare with.
        foreign_fall: By how much it is higher than on foreign backgrounds, image by image.
        relevance_excess: Share of the relevance in the lungs minus that of the same maps elsewhere in the image, mean.
        mark_change: Mean change of the probabilities when the planted mark of the image's class is replaced by another
            class's: half the sum of the absolute changes; NaN where the lungs leave no room.
        verdict: What they come to.
        sentences: The same in words.
    """

    images: int
    background_auc: Interval
    foreign_auc: Interval
    own_auc: Interval
    foreign_fall: Interval
    relevance_excess: Interval
    mark_change: float
    verdict: SelfCheckVerdict
    sentences: tuple[str, ...]

    def flat(self) -> dict[str, float]:
        """The numbers by name; `sign_of_a_shortcut` is 1 or 0, and NaN where that cannot be told."""
        return {
            "images": float(self.images),
            "background_auc": self.background_auc.estimate,
            "foreign_background_auc": self.foreign_auc.estimate,
            "relevance_excess": self.relevance_excess.estimate,
            "mark_change": self.mark_change,
            "sign_of_a_shortcut": _AS_NUMBER[self.verdict],
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "images": self.images,
            "background_auc": self.background_auc.to_dict(),
            "foreign_background_auc": self.foreign_auc.to_dict(),
            "own_background_auc": self.own_auc.to_dict(),
            "foreign_background_fall": self.foreign_fall.to_dict(),
            "relevance_excess": self.relevance_excess.to_dict(),
            "mark_change": self.mark_change if math.isfinite(self.mark_change) else None,
            "verdict": self.verdict.value,
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
    planted: Change = dict if mark is None else PlantMarkd(mark, MarkMode.BIASED, count)
    dataset = make_dataset(frame, classifier.classes, classifier.image, store=store)
    read: Form = lru_cache(maxsize=2)(dataset.__getitem__)  # the forms of an image come one behind the other
    forms: list[Form] = [
        lambda place: _without_lungs(planted(dict(read(place)))),
        _ForeignBackgrounds(read, frame["label"].to_numpy(), planted, settings.seed),
    ]
    if mark is None:
        with suppress(InputError):  # more classes than there are marks
            forms += [_marked(read, PlantMarkd(MarkConfig(), mode, count)) for mode in own_and_other]
    found = score(classifier, _InForms(len(frame), forms), title="self-check").probabilities()
    hidden, foreign, *marked = found.reshape(len(frame), len(forms), -1).swapaxes(0, 1)
    if mark is not None:
        marked = [probabilities(tables[mode.value], classifier.classes) for mode in own_and_other]
    own = probabilities(tables["clean" if mark is None else MarkMode.BIASED.value], classifier.classes)
    background, on_foreign, on_own = (
        _auc(tables["clean"], classifier, found, settings) for found in (hidden, foreign, own)
    )
    fall = _fall(tables["clean"], classifier, own, foreign, settings)
    excess = _excess(tables["clean"], settings)
    change = np.abs(marked[0] - marked[1]).sum(1) / 2 if marked else np.zeros(0)
    change = change[np.isfinite(change)]  # NaN where the lungs leave no room for the mark
    mean = float(change.mean()) if len(change) else math.nan
    return in_words(len(frame), background, on_foreign, on_own, fall, excess, mean, trained_with_marks=mark is not None)


Change = Callable[[dict[Any, Any]], dict[Any, Any]]
"""An item of the data set to one that is changed."""

Form = Callable[[int], dict[Any, Any]]
"""An image's place in the data set to an item as the network is to see it."""


class _InForms(Dataset[dict[Any, Any]]):
    """Every image in several forms, one behind the other."""

    def __init__(self, images: int, forms: Sequence[Form]) -> None:
        self._images = images
        self._forms = forms

    def __len__(self) -> int:
        return self._images * len(self._forms)

    def __getitem__(self, place: int) -> dict[Any, Any]:
        index, form = divmod(place, len(self._forms))
        return self._forms[form](index)


def _marked(read: Form, plant: Change) -> Form:
    return lambda place: plant(dict(read(place)))


class _ForeignBackgrounds:
    """The lungs of each image on the background of one of another class, drawn by the seed."""

    def __init__(self, read: Form, labels: NDArray[Any], planted: Change, seed: int) -> None:
        self._read = read
        self._planted = planted
        draw = np.random.default_rng(seed)
        self._donors = [int(draw.choice(np.flatnonzero(labels != label))) for label in labels]
        few = draw.permutation(len(labels))[:MEAN_OF]
        self._mean = torch.stack([read(int(place))["image"] for place in few]).mean(0)[None]

    def __call__(self, place: int) -> dict[Any, Any]:
        item, donor = (self._planted(dict(self._read(i))) for i in (place, self._donors[place]))
        image, mask, background, lungs = (
            part[None] for part in (item["image"], item["mask"], donor["image"], donor["mask"])
        )
        return {**item, "image": paste_lungs(image, mask, background, lungs, self._mean)[0]}


def _without_lungs(item: dict[Any, Any]) -> dict[Any, Any]:
    """An item with black lungs, and with them the rim into which blur carries what is in the lungs."""
    return {**item, "image": background_only(item["image"][None], item["mask"][None], 0.0)[0]}


def _auc(table: pd.DataFrame, classifier: Classifier, found: NDArray[Any], settings: Settings) -> Interval:
    """AUC of probabilities (N, classes) for the images of a table; those that are NaN are left out."""
    table = table.copy()
    table[probability_columns(classifier.classes)] = found
    table = table.iloc[np.flatnonzero(np.isfinite(found).all(1))]
    return evaluate_site(table, classifier.classes, resamples=settings.resamples, seed=settings.seed).metrics["auc"]


def _fall(
    table: pd.DataFrame, classifier: Classifier, before: NDArray[Any], after: NDArray[Any], settings: Settings
) -> Interval:
    """AUC of probabilities (N, classes) for the images of a table, less that of others for the same images."""
    kept = np.flatnonzero(np.isfinite(before).all(1) & np.isfinite(after).all(1))
    table = table.iloc[kept]
    labels = label_indices(table, classifier.classes)
    bootstrap = PatientBootstrap.of(table, resamples=settings.resamples, seed=settings.seed)
    first, second = (bootstrap.resample({"auc": HandTillAUC(labels, scores[kept])}) for scores in (before, after))
    return paired_difference(first, second, "auc")


def _excess(predictions: pd.DataFrame, settings: Settings) -> Interval:
    bootstrap = PatientBootstrap.of(predictions, resamples=settings.resamples, seed=settings.seed)
    return bootstrap.intervals({"excess": WeightedMean(relevance_excess(predictions))})["excess"]


_AS_NUMBER = {SelfCheckVerdict.SIGN: 1.0, SelfCheckVerdict.NO_SIGN: 0.0, SelfCheckVerdict.CANNOT_TELL: math.nan}


@dataclass(frozen=True)
class _Answer:
    """What one number of a self-check says.

    Attributes:
        sentence: In words.
        verdict: What it comes to by itself.
    """

    sentence: str
    verdict: SelfCheckVerdict


def in_words(
    images: int,
    background: Interval,
    foreign: Interval,
    own: Interval,
    fall: Interval,
    excess: Interval,
    change: float,
    *,
    trained_with_marks: bool,
) -> SelfCheck:
    """The numbers of a self-check in words, with what they come to; arguments as the attributes of `SelfCheck`."""
    answers = [_of_the_background(background, foreign, own, fall), _on_foreign_backgrounds(foreign, own)]
    if math.isfinite(excess.estimate):
        answers.append(_of_relevance(excess, own))
    if math.isfinite(change):
        answers.append(_of_the_mark(change, trained_with_marks))
    found = {answer.verdict for answer in answers}
    verdict, why = SelfCheckVerdict.NO_SIGN, ""
    if SelfCheckVerdict.SIGN in found:
        verdict = SelfCheckVerdict.SIGN
    elif not _above_chance(own):
        verdict, why = SelfCheckVerdict.CANNOT_TELL, ": the classes are not told apart on validation images"
    elif SelfCheckVerdict.CANNOT_TELL in found:
        verdict, why = SelfCheckVerdict.CANNOT_TELL, ": too few validation images"
    said = (f"Self-check on {images} validation images: {verdict}{why}.", *(answer.sentence for answer in answers))
    return SelfCheck(images, background, foreign, own, fall, excess, change, verdict, said)


def _of_the_background(background: Interval, foreign: Interval, own: Interval, fall: Interval) -> _Answer:
    """A network that tells the classes apart where there are no lungs, by the background or by the outline of the
    lungs in it, does not go by that where there are lungs, if a foreign background makes no difference."""
    margin = own.estimate - FOREIGN_DROP
    unmoved = _above_chance(own) and _lowest(foreign) >= margin and not fall.low > 0
    if not _above_chance(background):
        few = background.estimate >= UNCERTAIN
        verdict = SelfCheckVerdict.CANNOT_TELL if few else SelfCheckVerdict.NO_SIGN
        said = (
            "too few images to say whether the background tells it the classes"
            if few
            else "the background tells it little"
        )
    elif unmoved:
        verdict = SelfCheckVerdict.NO_SIGN
        said = "the background, or the outline of the lungs in it, tells it the classes where there are no lungs to see"
    else:
        verdict, said = SelfCheckVerdict.SIGN, "the background alone tells it the classes"
    return _Answer(f"With the lungs blackened its AUC is {interval_text(background)}: {said}.", verdict)


def _on_foreign_backgrounds(foreign: Interval, own: Interval) -> _Answer:
    if (foreign.high if math.isfinite(foreign.high) else foreign.estimate) < own.estimate - FOREIGN_DROP:
        verdict, said = SelfCheckVerdict.SIGN, "it goes along with the background"
    elif not _above_chance(own):
        verdict, said = SelfCheckVerdict.CANNOT_TELL, "it does not tell the classes apart, so that this says nothing"
    elif not _above_chance(foreign):
        verdict, said = SelfCheckVerdict.CANNOT_TELL, "too few images to say whether it goes by the lungs"
    else:
        verdict, said = SelfCheckVerdict.NO_SIGN, "it goes by the lungs"
    return _Answer(
        f"With the lungs on the background of an image of another class its AUC is {interval_text(foreign)}, on the "
        f"images themselves {interval_text(own)}: {said}.",
        verdict,
    )


def _of_relevance(excess: Interval, own: Interval) -> _Answer:
    said = f"The lungs hold {interval_text(excess)} more of the relevance than where the same maps are moved about"
    if excess.low > 0:
        return _Answer(f"{said}.", SelfCheckVerdict.NO_SIGN)
    if not _above_chance(own):
        return _Answer(
            f"{said}, of a network that does not tell the classes apart, so that this says nothing.",
            SelfCheckVerdict.CANNOT_TELL,
        )
    return _Answer(f"{said}, which is no more than by chance.", SelfCheckVerdict.SIGN)


def _of_the_mark(change: float, trained_with_marks: bool) -> _Answer:
    kind = "the mark that it was trained with" if trained_with_marks else "a mark that it never saw in training"
    said = f"Another class's mark in place of the own one changes its probabilities by {change:.3f} ({kind}): "
    if change > READS_MARK:
        return _Answer(f"{said}it reads the mark.", SelfCheckVerdict.SIGN)
    return _Answer(f"{said}it does not read the mark.", SelfCheckVerdict.NO_SIGN)


def _above_chance(auc: Interval) -> bool:
    """Whether an AUC lies above one half, to the lower end of its interval."""
    return _lowest(auc) > 0.5


def _lowest(auc: Interval) -> float:
    """Lower end of an interval; where it has none, the estimate."""
    return auc.low if math.isfinite(auc.low) else auc.estimate
