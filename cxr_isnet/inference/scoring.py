"""The one loop that predicts: items in, logits out, and on request shares of relevance, distances and heatmaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from cxr_isnet.engine import LoggedProgress
from cxr_isnet.inference.classifier import Classifier
from cxr_isnet.inference.explainers import Explainer
from cxr_isnet.inference.read_ahead import ReadItem, read_batches
from cxr_isnet.inference.relevance_share import relevance_in_lung, relevance_null
from cxr_isnet.networks import logits_and_penultimate

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[Tensor, Tensor], str]
"""Image (size, size) and the map (size, size) of its most probable class to a picture, as text."""


_NO_ANSWER = "the model's answer is no number: its weights are damaged, or overflow. Restore the model, or train again"


@dataclass(frozen=True)
class Scores:
    """What was found of N images, in their order.

    Attributes:
        logits: (N, classes) float32; NaN where an image cannot be read.
        errors: why an image cannot be read; "" where it can.
        about: what the data set says of an image beside its pixels (key `about` of its items).
        relevance_in_lung: (N,) share of relevance inside the lungs; NaN where there is none.
        relevance_null: (N,) the share that the same map has elsewhere, mirrored, turned and shifted.
        relevance_reasons: why there is none; "" where there is.
        distances: (N,) as of `FeatureReference.distances`; NaN where not asked for or without a reference.
        heatmaps: what `draw` gave; "" where an image cannot be read or explained.
    """

    logits: Tensor
    errors: list[str]
    about: list[Any]
    relevance_in_lung: FloatArray
    relevance_null: FloatArray
    relevance_reasons: list[str]
    distances: FloatArray
    heatmaps: list[str]

    def probabilities(self, temperature: float = 1.0) -> FloatArray:
        """(N, classes), the logits divided by a temperature; NaN where an image cannot be read."""
        scaled = self.logits if temperature == 1.0 else self.logits / temperature
        return np.asarray(scaled.softmax(1).double().numpy(), dtype=np.float64)

    @classmethod
    def empty(cls, count: int, classes: int) -> Scores:
        """Of images of which nothing is known yet."""
        return cls(
            torch.full((count, classes), torch.nan),
            [""] * count,
            [None] * count,
            np.full(count, np.nan),
            np.full(count, np.nan),
            [""] * count,
            np.full(count, np.nan),
            [""] * count,
        )

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """Several, one behind the other."""
        return cls(
            torch.cat([part.logits for part in parts]),
            list(chain.from_iterable(part.errors for part in parts)),
            list(chain.from_iterable(part.about for part in parts)),
            np.concatenate([part.relevance_in_lung for part in parts]),
            np.concatenate([part.relevance_null for part in parts]),
            list(chain.from_iterable(part.relevance_reasons for part in parts)),
            np.concatenate([part.distances for part in parts]),
            list(chain.from_iterable(part.heatmaps for part in parts)),
        )


def score(classifier: Classifier, items: Dataset[Any], **arguments: Any) -> Scores:
    """`score_batches`, all in one."""
    parts = [Scores.empty(0, len(classifier.classes)), *score_batches(classifier, items, **arguments)]
    return Scores.joined(parts)


def score_batches(
    classifier: Classifier,
    items: Dataset[Any],
    *,
    batch_size: int = 16,
    workers: int = 0,
    explainer: Explainer | None = None,
    distances: bool = False,
    draw: Draw | None = None,
    title: str = "predicting",
) -> Iterator[Scores]:
    """Predicts every item of a data set, a batch after the other; one that cannot be read never stops the others.

    Args:
        classifier: The classifier.
        items: Data set of items with `image` (1, size, size) and, where shares of relevance are asked for, `mask` and
            `has_mask`.
        batch_size: Images at a time.
        workers: Reading processes; 0 reads in this one.
        explainer: Gives maps: of the images with a mask for their share of relevance, and of all to `draw`; None gives
            none.
        distances: Computes the distances of the features, where the classifier has a reference.
        draw: Makes a picture of every image's map.
        title: Of the progress bar.
    """
    count = len(items)  # type: ignore[arg-type] # every data set here has a length
    progress = LoggedProgress(title, count)
    with tqdm(total=count, desc=title, unit="image", disable=None) as bar:
        for batch in read_batches(items, batch_size, workers):
            yield _score(classifier, batch, explainer, distances, draw)
            bar.update(len(batch))
            progress.advance(len(batch))


@torch.no_grad()
def _score(
    classifier: Classifier,
    batch: Sequence[ReadItem],
    explainer: Explainer | None,
    distances: bool,
    draw: Draw | None,
) -> Scores:
    found = Scores.empty(len(batch), len(classifier.classes))
    found.errors[:] = [error for _, error in batch]
    readable = [(place, item) for place, (item, error) in enumerate(batch) if not error]
    if readable:
        _score_readable(classifier, readable, explainer, distances, draw, found)
    return found


def _score_readable(
    classifier: Classifier,
    readable: Sequence[tuple[int, Mapping[Any, Any]]],
    explainer: Explainer | None,
    distances: bool,
    draw: Draw | None,
    found: Scores,
) -> None:
    at = [place for place, _ in readable]
    images = torch.stack([item["image"] for _, item in readable]).to(classifier.device)
    if distances and classifier.reference is not None:
        logits, features = logits_and_penultimate(classifier.network, images)
        found.distances[at] = classifier.reference.distances(features.float())
    else:
        logits = classifier.network(images)
    found.logits[at] = logits.float().cpu()
    for place, item in readable:
        found.about[place] = item.get("about")
        if not bool(found.logits[place].isfinite().all()):
            found.errors[place] = _NO_ANSWER
            found.logits[place] = torch.nan
    if explainer is None:
        return
    masked = [bool(item.get("has_mask", False)) for _, item in readable]
    maps = None
    if explainer.explain is not None and (draw is not None or any(masked)):
        maps = explainer.explain(images)[1].cpu()
    if maps is not None and any(masked):
        masks = torch.stack([item["mask"] for _, item in readable])
        found.relevance_in_lung[at] = relevance_in_lung(maps, masks, np.array(masked))
        found.relevance_null[at] = relevance_null(maps, masks, np.array(masked))
    missing = explainer.reason or "no relevance at all"
    for row, place in enumerate(at):
        if not np.isfinite(found.relevance_in_lung[place]):
            found.relevance_reasons[place] = missing if masked[row] else "no lung mask"
        if maps is not None and draw is not None:
            found.heatmaps[place] = draw(images[row, 0].cpu(), maps[row, int(logits[row].argmax())])
