"""The temperature stored with a classifier, fitted on in-domain validation at the end of its training."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pandas as pd
from sklearn.metrics import log_loss

from cxr_isnet.evaluation import fit_temperature, label_indices, probabilities, with_temperature
from cxr_isnet.inference import Classifier

_log = logging.getLogger(__name__)


def fit_and_store_temperature(classifier: Classifier, validation: pd.DataFrame, best_file: Path) -> dict[str, float]:
    """Fits the classifier's temperature and writes the checkpoint again with it; fitting once more changes nothing.

    Its own probabilities stay as they are: the predictions were made without a temperature, and are after it.

    Args:
        classifier: The best one of a training; its temperature is set.
        validation: Its checked predictions table of the validation images, without planted marks.
        best_file: The checkpoint.

    Returns:
        `temperature`, and the log loss of those images as given and with the temperature. The temperature is 1 where
        every one of them is classified correctly, since the fit then does not converge, and where the model tells
        nothing, since equal probabilities then have the least log loss.
    """
    labels, scores = label_indices(validation, classifier.classes), probabilities(validation, classifier.classes)
    fitted = fit_temperature(labels, scores)
    if math.isnan(fitted):
        _log.info("no temperature was fitted: all %d validation images are classified correctly", len(validation))
    if math.isinf(fitted):
        _log.warning(
            "no temperature was fitted: the model tells nothing on the %d validation images, where equal probabilities "
            "of all classes have a lower log loss than its own",
            len(validation),
        )
    classifier.temperature = fitted if math.isfinite(fitted) else 1.0
    classifier.save(best_file)
    every_class = range(len(classifier.classes))
    given, scaled = (with_temperature(scores, t) for t in (1.0, classifier.temperature))  # sums of 1 in float64
    return {
        "temperature": classifier.temperature,
        "log_loss": float(log_loss(labels, given, labels=every_class)),
        "log_loss_with_temperature": float(log_loss(labels, scaled, labels=every_class)),
    }
