"""What a classifier is shipped with beside its weights: the threshold of its decision, and what images it knows."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from cxr_isnet.data import make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import frozen_rule, label_indices, probabilities
from cxr_isnet.inference import Classifier, fit_reference
from cxr_isnet.networks import last_layer, penultimate

BATCH_SIZE = 16


def fit_threshold_and_reference(
    classifier: Classifier, validation: pd.DataFrame, training_frame: pd.DataFrame, validation_frame: pd.DataFrame
) -> None:
    """Fits a classifier's threshold on in-domain validation, and the reference of its features on training images.

    Args:
        classifier: The best one of a training; its threshold and reference are set.
        validation: Its checked predictions table of the validation images, without planted marks.
        training_frame: Manifest of the training images.
        validation_frame: Manifest of the validation images, which set the limit of the distances.
    """
    labels, scores = label_indices(validation, classifier.classes), probabilities(validation, classifier.classes)
    rule = frozen_rule(labels, scores, classifier.classes, sensitivity=None, source="in-domain validation")
    classifier.threshold = rule.threshold
    try:
        last_layer(classifier.network)
    except InputError:
        return  # a network without features of one vector
    features = [_features(classifier, frame) for frame in (training_frame, validation_frame)]
    classifier.reference = fit_reference(*features)


def _features(classifier: Classifier, frame: pd.DataFrame) -> Tensor:
    dataset = make_dataset(frame, classifier.classes, classifier.image, cache=False, labelled=False)
    found = []
    for start in range(0, len(dataset), BATCH_SIZE):
        images = [dataset[place]["image"] for place in range(start, min(start + BATCH_SIZE, len(dataset)))]
        found.append(penultimate(classifier.network, torch.stack(images).to(classifier.device)).float().cpu())
    return torch.cat(found)
