"""What a classifier is shipped with beside its weights, fitted on in-domain validation: the threshold of its decision,
the temperature of its probabilities, and what images it knows."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass

import pandas as pd
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from cxr_isnet.data import ImageStore, make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import fit_temperature, frozen_rule, label_indices, probabilities, with_temperature
from cxr_isnet.inference import Classifier, fit_reference
from cxr_isnet.networks import last_layer, penultimate

_log = logging.getLogger(__name__)

BATCH_SIZE = 16


@dataclass(frozen=True)
class Calibration:
    """What was fitted to the validation images.

    Attributes:
        temperature: That is shipped; 1 where none was found.
        log_loss: Of the validation images, with the network's own probabilities.
        log_loss_with_temperature: With the temperature.
        threshold: That is shipped, of two classes; None where none was found, and for more classes.
        youden: Sensitivity + specificity - 1 at the threshold, on the images that it was fitted to; NaN without.
        note: What was not found, in words; "" where all was.
    """

    temperature: float
    log_loss: float
    log_loss_with_temperature: float
    threshold: float | None
    youden: float
    note: str

    def flat(self) -> dict[str, float]:
        """The numbers that there are, by name."""
        return {k: v for k, v in asdict(self).items() if isinstance(v, float) and math.isfinite(v)}

    def to_dict(self) -> dict[str, float | str | None]:
        """As JSON can hold it."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


def fit_calibration(classifier: Classifier, validation: pd.DataFrame) -> Calibration:
    """Fits a classifier's threshold and temperature; fitting once more changes nothing.

    Its own probabilities stay as they are: the predictions were made without a temperature, and are after it. Where the
    validation images are told apart by no threshold, or any temperature makes the probabilities better that makes them
    more alike, the model tells nothing here, and nothing is shipped that looks like a calibration.

    Args:
        classifier: The best one of a training; its threshold and temperature are set.
        validation: Its checked predictions table of the validation images, without planted marks.
    """
    labels, scores = label_indices(validation, classifier.classes), probabilities(validation, classifier.classes)
    rule = frozen_rule(labels, scores, classifier.classes, sensitivity=None, source="in-domain validation")
    youden, notes = math.nan, []
    if rule.tells_nothing:
        youden = 0.0
        notes.append("no threshold tells the classes apart (Youden index 0)")
    elif rule.threshold is not None:
        above = scores[:, 1] >= rule.threshold
        youden = float(above[labels == 1].mean() - above[labels == 0].mean())
    fitted = fit_temperature(labels, scores)
    temperature = fitted if math.isfinite(fitted) else 1.0
    if math.isnan(fitted):
        _log.info("no temperature was fitted: of these %d images any lower one has a lower loss", len(validation))
    elif math.isinf(fitted):
        notes.append("equal probabilities of all classes have a lower loss than those of any temperature")
    note = f"The model tells nothing on its own validation images: {'; '.join(notes)}." if notes else ""
    if note:
        _log.warning("%s No such value is shipped: decisions are the most probable class, probabilities its own", note)
    classifier.threshold, classifier.temperature = rule.threshold, temperature
    every_class = range(len(classifier.classes))
    given, scaled = (with_temperature(scores, t) for t in (1.0, temperature))  # sums of 1 in float64
    return Calibration(
        temperature,
        float(log_loss(labels, given, labels=every_class)),
        float(log_loss(labels, scaled, labels=every_class)),
        rule.threshold,
        youden,
        note,
    )


def fit_feature_reference(
    classifier: Classifier, training: pd.DataFrame, validation: pd.DataFrame, store: ImageStore | None = None
) -> None:
    """Fits the reference of a classifier's features, which says how far another image is.

    Args:
        classifier: The best one of a training; its reference is set, unless its network has no features of one vector.
        training: Manifest of the training images.
        validation: Manifest of the validation images, which set the limit of the distances.
        store: Where the images are kept; None reads them.
    """
    try:
        last_layer(classifier.network)
    except InputError:
        return
    classifier.reference = fit_reference(*(_features(classifier, frame, store) for frame in (training, validation)))


def _features(classifier: Classifier, frame: pd.DataFrame, store: ImageStore | None) -> Tensor:
    dataset = make_dataset(frame, classifier.classes, classifier.image, store=store, labelled=False)
    found = []
    for start in range(0, len(dataset), BATCH_SIZE):
        images = [dataset[place]["image"] for place in range(start, min(start + BATCH_SIZE, len(dataset)))]
        found.append(penultimate(classifier.network, torch.stack(images).to(classifier.device)).float().cpu())
    return torch.cat(found)
