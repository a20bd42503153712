"""From a classifier and images to a predictions table: a row for every image, failures with their reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch.utils.data import default_collate

from cxr_isnet.data import ImageStore, MarkConfig, MarkMode, make_dataset
from cxr_isnet.evaluation import (
    ERROR_COLUMN,
    RELEVANCE_COLUMN,
    RELEVANCE_NULL_COLUMN,
    RELEVANCE_REASON_COLUMN,
    label_indices,
    probabilities,
    probability_columns,
)
from cxr_isnet.inference.classifier import Classifier
from cxr_isnet.inference.heatmap_figures import HeatmapCase
from cxr_isnet.inference.scoring import Scores, score_batches
from cxr_isnet.objectives import Explanation

CLEAN = "clean"
"""Name of the condition of the images as they are."""

_NOT_IN_THE_TABLE = ("image", "mask", "split", "sha256", "path", "model_uri")


@dataclass(frozen=True)
class Condition:
    """The images as they are, or with planted marks.

    Attributes:
        name: `clean`, `biased` or `swapped`.
        mode: Which mark an image gets.
        mark: Looks of the mark.
    """

    name: str = CLEAN
    mode: MarkMode = MarkMode.NONE
    mark: MarkConfig | None = None


CLEAN_IMAGES = Condition()
"""The images as they are."""


def conditions(mark: MarkConfig | None) -> list[Condition]:
    """The three conditions for a classifier that was trained with marks; clean alone for any other."""
    if mark is None:
        return [CLEAN_IMAGES]
    return [Condition("biased", MarkMode.BIASED, mark), CLEAN_IMAGES, Condition("swapped", MarkMode.SWAPPED, mark)]


def files_frame(paths: Sequence[str]) -> pd.DataFrame:
    """Image files of which nothing else is known, as rows for `predict_manifest`; each is a patient of its own."""
    return pd.DataFrame(
        {"image": list(paths), "mask": "", "label": "", "patient_id": list(paths), "site": "unnamed"}, dtype=str
    )


def predict_manifest(
    classifier: Classifier,
    frame: pd.DataFrame,
    condition: Condition = CLEAN_IMAGES,
    *,
    model_uri: str = "",
    batch_size: int = 16,
    workers: int = 0,
    explanation: Explanation | None = None,
    calibrated: bool = False,
    store: ImageStore | None = None,
) -> pd.DataFrame:
    """Predictions table of a manifest's images. One that cannot be read never stops the others.

    Args:
        classifier: The classifier.
        frame: As `cxr_isnet.manifests.read_manifest` returns it; labels that are none of the classifier's classes are
            unknown.
        condition: What is planted into the images; the labels must be known for marks.
        model_uri: Goes into the column of that name.
        batch_size: Images at a time.
        workers: Reading processes; 0 reads in this one.
        explanation: How relevance is computed where there is a mask; None takes the method's own way.
        calibrated: Gives the probabilities with the classifier's temperature.
        store: Where images are kept once they have been read; None reads them each time.

    Returns:
        A row per image, in order: path, patient_id, site, label, probability_<class> (NaN where the image cannot be
        read), model_uri, relevance_in_lung (of the maps of all classes; NaN where there is none), relevance_null (the
        share that the same maps have elsewhere, as `relevance_null` says), relevance_reason (why there is none), error
        (why the image could not be read; "" where it could), and the manifest's other columns.

    Example:
        >>> from cxr_isnet import Classifier, read_manifest
        >>> frame = read_manifest("hospital_a/manifest.csv")
        >>> table = predict_manifest(Classifier.load("runs/first/best.pt"), frame)
        >>> table["relevance_in_lung"].between(0, 1).all()
        np.True_
    """
    arguments: dict[str, Any] = {"model_uri": model_uri, "batch_size": batch_size, "workers": workers}
    arguments |= {"explanation": explanation, "calibrated": calibrated, "store": store}
    return pd.concat(list(predict_batches(classifier, frame, condition, **arguments)), ignore_index=True)


def predict_batches(
    classifier: Classifier,
    frame: pd.DataFrame,
    condition: Condition = CLEAN_IMAGES,
    *,
    model_uri: str = "",
    batch_size: int = 16,
    workers: int = 0,
    explanation: Explanation | None = None,
    calibrated: bool = False,
    store: ImageStore | None = None,
) -> Iterator[pd.DataFrame]:
    """The rows of `predict_manifest`, whose arguments it takes, batch by batch; `workers` read ahead of the network."""
    dataset = make_dataset(
        frame, classifier.classes, classifier.image, mark=condition.mark, mode=condition.mode, store=store,
        labelled=condition.mode is not MarkMode.NONE,
    )  # fmt: skip
    batches = score_batches(
        classifier,
        dataset,
        batch_size=batch_size,
        workers=workers,
        explainer=classifier.explainer(explanation),
        title=f"predicting ({condition.name})",
    )
    start = 0
    for scores in batches:
        rows = frame.iloc[start : start + len(scores.errors)]
        start += len(rows)
        yield _table(rows, scores, classifier, model_uri, classifier.temperature if calibrated else 1.0)


def _table(
    frame: pd.DataFrame, scores: Scores, classifier: Classifier, model_uri: str, temperature: float
) -> pd.DataFrame:
    columns = {column: [str(v) for v in frame[column]] for column in ("patient_id", "site", "label")}
    table = pd.DataFrame({"path": [str(v) for v in frame["image"]], **columns})
    table[probability_columns(classifier.classes)] = scores.probabilities(temperature)
    table["model_uri"] = model_uri
    table[RELEVANCE_COLUMN] = scores.relevance_in_lung
    table[RELEVANCE_NULL_COLUMN] = scores.relevance_null
    table[RELEVANCE_REASON_COLUMN] = scores.relevance_reasons
    table[ERROR_COLUMN] = scores.errors
    for column in frame.columns:
        if column not in (*_NOT_IN_THE_TABLE, *table.columns):
            table[column] = list(frame[column])
    return table


def gallery_cases(
    classifier: Classifier,
    frame: pd.DataFrame,
    predictions: pd.DataFrame,
    condition: Condition,
    *,
    per_kind: int = 2,
    store: ImageStore | None = None,
) -> list[HeatmapCase]:
    """The images with a mask that the classifier is surest of, right ones and wrong ones, with a map for every class.

    Args:
        classifier: The classifier.
        frame: The manifest.
        predictions: Its predictions table, rows in the same order.
        condition: What was planted into the images.
        per_kind: How many right and how many wrong cases, shared out among the true classes.
        store: As of `predict_manifest`.
    """
    chosen = _surest(predictions, classifier.classes, per_kind)
    return heatmap_cases(classifier, frame.iloc[chosen], condition, store=store) if chosen else []


def heatmap_cases(
    classifier: Classifier,
    rows: pd.DataFrame,
    condition: Condition = CLEAN_IMAGES,
    explanation: Explanation | None = None,
    *,
    store: ImageStore | None = None,
) -> list[HeatmapCase]:
    """The images of a manifest's `rows`, in their order, with a map for every class; few at a time, as one batch.

    Returns:
        None at all where the classifier cannot be explained.
    """
    explainer = classifier.explainer(explanation)
    if explainer.explain is None:
        return []
    dataset = make_dataset(
        rows, classifier.classes, classifier.image, mark=condition.mark, mode=condition.mode, store=store,
        labelled=condition.mode is not MarkMode.NONE,
    )  # fmt: skip
    batch = default_collate([dataset[place] for place in range(len(rows))])
    logits, maps = explainer.explain(batch["image"].to(classifier.device))
    probability = logits.float().softmax(1).cpu()
    return [
        HeatmapCase(
            image=batch["image"][i, 0].numpy(),
            mask=batch["mask"][i, 0].numpy() if bool(batch["has_mask"][i]) else None,
            maps=maps[i].cpu().numpy(),
            map_names=classifier.classes,
            label=str(rows["label"].iloc[i]),
            predicted=classifier.classes[int(probability[i].argmax())],
            probabilities=tuple(probability[i].tolist()),
            path=str(rows["image"].iloc[i]),
        )
        for i in range(len(rows))
    ]


def _surest(predictions: pd.DataFrame, classes: Sequence[str], per_kind: int) -> list[int]:
    """Row numbers: right cases first, wrong ones after; within a kind the surest of every class in turn."""
    probability, labels = probabilities(predictions, classes), label_indices(predictions, classes)
    predicted, sure = probability.argmax(1), probability.max(1)
    usable = predictions["relevance_in_lung"].notna().to_numpy() & (labels >= 0)
    chosen: list[int] = []
    for right in (True, False):
        ranked = []
        for index in range(len(classes)):
            rows = np.flatnonzero(usable & (labels == index) & ((predicted == labels) == right))
            ranked += [
                (place, index, int(row)) for place, row in enumerate(rows[np.argsort(-sure[rows], kind="stable")])
            ]
        chosen += [row for _, _, row in sorted(ranked)[:per_kind]]
    return chosen
