"""From a classifier and a manifest to a predictions table, with the share of relevance inside the lungs of every
image."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from cxr_isnet.data import MarkConfig, MarkMode, make_dataset, make_loader
from cxr_isnet.deployment import Classifier
from cxr_isnet.evaluation.gallery import HeatmapCase
from cxr_isnet.evaluation.predictions import label_indices, probabilities, probability_columns
from cxr_isnet.evaluation.relevance_share import relevance_in_lung
from cxr_isnet.relevance import LRP

_METADATA = ("view", "sex", "age", "licence")


@dataclass(frozen=True)
class PlantedTest:
    """A test set as it is, or with planted marks.

    Attributes:
        name: `clean`, `biased` or `swapped`.
        mode: Which mark an image gets.
        mark: Looks of the mark.
    """

    name: str = "clean"
    mode: MarkMode = MarkMode.NONE
    mark: MarkConfig | None = None


def planted_tests(mark: MarkConfig | None) -> list[PlantedTest]:
    """The three tests of a classifier that was trained with marks; the clean one alone for any other."""
    clean = PlantedTest()
    if mark is None:
        return [clean]
    return [
        PlantedTest("biased", MarkMode.BIASED, mark),
        clean,
        PlantedTest("swapped", MarkMode.SWAPPED, mark),
    ]


def predict_manifest(
    classifier: Classifier,
    frame: pd.DataFrame,
    test: PlantedTest,
    *,
    model_uri: str = "",
    batch_size: int = 16,
) -> pd.DataFrame:
    """Predictions table of a manifest's images.

    Args:
        classifier: The classifier.
        frame: As `cxr_isnet.manifests.read_manifest` returns it.
        test: What is planted into the images.
        model_uri: Goes into the column of that name.
        batch_size: Images at a time.

    Returns:
        A row per image, in order: path, patient_id, site, label, probability_<class>, model_uri, relevance_in_lung (of
        the maps of all classes, NaN without a mask), and what the manifest says of view, sex, age and licence.
    """
    lrp = LRP(classifier.network)
    dataset = make_dataset(frame, classifier.classes, classifier.image, mark=test.mark, mode=test.mode, cache=False)
    loader = make_loader(dataset, batch_size=batch_size, shuffle=False, seed=0)
    probability: list[Tensor] = []
    shares: list[npt.NDArray[np.float64]] = []
    for batch in tqdm(loader, desc=f"predicting ({test.name})", disable=not sys.stderr.isatty()):
        with torch.no_grad():
            logits, relevance = lrp(batch["image"].to(classifier.device))
        probability.append(logits.float().softmax(1).cpu())
        shares.append(relevance_in_lung(relevance.image[:, :, 0].cpu(), batch["mask"], batch["has_mask"]))
    columns = {column: [str(v) for v in frame[column]] for column in ("patient_id", "site", "label")}
    table = pd.DataFrame({"path": [str(v) for v in frame["image"]], **columns})
    table[probability_columns(classifier.classes)] = torch.cat(probability).double().numpy()
    table["model_uri"] = model_uri
    table["relevance_in_lung"] = np.concatenate(shares)
    for column in _METADATA:
        if column in frame.columns:
            table[column] = list(frame[column])
    return table


def gallery_cases(
    classifier: Classifier,
    frame: pd.DataFrame,
    predictions: pd.DataFrame,
    test: PlantedTest,
    *,
    per_kind: int = 2,
) -> list[HeatmapCase]:
    """The images with a mask that the classifier is surest of, right ones and wrong ones, with a map for every class.

    Args:
        classifier: The classifier.
        frame: The manifest.
        predictions: Its predictions table, rows in the same order.
        test: What was planted into the images.
        per_kind: How many right and how many wrong cases, shared out among the true classes.
    """
    chosen = _surest(predictions, classifier.classes, per_kind)
    return heatmap_cases(classifier, frame.iloc[chosen], test) if chosen else []


def heatmap_cases(classifier: Classifier, rows: pd.DataFrame, test: PlantedTest) -> list[HeatmapCase]:
    """The images of a manifest's `rows`, in their order, with a map for every class; few at a time, as one batch."""
    dataset = make_dataset(rows, classifier.classes, classifier.image, mark=test.mark, mode=test.mode, cache=False)
    batch = next(iter(make_loader(dataset, batch_size=len(rows), shuffle=False, seed=0)))
    with torch.no_grad():
        logits, relevance = LRP(classifier.network)(batch["image"].to(classifier.device))
    probability = logits.float().softmax(1).cpu()
    return [
        HeatmapCase(
            image=batch["image"][i, 0].numpy(),
            mask=batch["mask"][i, 0].numpy() if bool(batch["has_mask"][i]) else None,
            maps=relevance.image[i, :, 0].cpu().numpy(),
            map_names=classifier.classes,
            label=str(rows["label"].iloc[i]),
            predicted=classifier.classes[int(probability[i].argmax())],
            probability=float(probability[i].max()),
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
