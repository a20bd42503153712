"""Does the relevance mean something? Maps against other patients' lungs, against hiding, against what experts marked.

The share of relevance in the lungs rewards any map that is central. Here a sample of images is looked at closer: hidden
first, what is relevant should change the output; the lungs of other patients should hold less of it; and where a
hospital marked findings itself, it should lie on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cxr_isnet.data import ImageStore, make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import (
    FloatArray,
    IntArray,
    Interval,
    PatientBootstrap,
    WeightedMean,
    interval_text,
    patient_numbers,
)
from cxr_isnet.inference.annotations import Annotations
from cxr_isnet.inference.classifier import Classifier
from cxr_isnet.inference.localisation import (
    box_regions,
    occlusion_gain,
    pointing_game,
    relevance_on_findings,
    zone_agreement,
    zone_agreement_with_others,
    zone_relevance,
)
from cxr_isnet.inference.read_ahead import read_batches
from cxr_isnet.inference.relevance_share import relevance_in_lung, relevance_in_other_lungs
from cxr_isnet.objectives import Explanation
from cxr_isnet.tables import write_table

TABLE = "relevance_checks.csv"

_BATCH = 16
_MEASURES = {
    "occlusion_gain": "hidden first, what is relevant lowers the probability, by more than as much hidden at random",
    "relevance_in_lung": "share of the relevance in the lungs",
    "relevance_in_other_lungs": "share of it in the lungs of other patients",
    "lung_excess": "difference of the two",
    "pointing": "the most relevant pixel of the lungs lies on the finding",
    "on_finding": "share of the relevance within the lungs that lies on the finding",
    "on_finding_chance": "share of the lungs that the finding fills: both by chance",
    "pointing_excess": "pointing above chance",
    "on_finding_excess": "share above chance",
    "zone_agreement": "Spearman's correlation of relevance and scores over the six zones",
    "zone_chance": "the same with the scores of other patients",
    "zone_excess": "difference of the two",
}
"""Columns of the table, with what they are."""

_OF_BOXES = ("pointing", "on_finding", "on_finding_chance", "pointing_excess", "on_finding_excess")


@dataclass(frozen=True)
class RelevanceChecks:
    """What was found, a row per image.

    Attributes:
        table: Path, patient_id, site, label (the class whose map was looked at), and a column per measure, NaN where it
            was not looked at.
        intervals: Measure to its mean with an interval over patients; without those that no image has.
    """

    table: pd.DataFrame
    intervals: dict[str, Interval]

    def write(self, folder: Path) -> None:
        """Writes the table, if there is any."""
        if len(self.table):
            write_table(self.table, folder / TABLE)

    def flat(self, part: str) -> dict[str, float]:
        """Every mean by its name, as a tracking server groups them: `external/relevance/occlusion_gain`."""
        return {f"{part}/relevance/{name}": found.estimate for name, found in self.intervals.items()}

    def text(self) -> str:
        """A line per measure; "" where nothing was looked at."""
        lines = []
        for name, found in self.intervals.items():
            count = int(self.table[name].notna().sum())
            lines.append(f"  {name}: {interval_text(found)}, {count} images: {_MEASURES[name]}")
        return "\n".join(["relevance, looked at closer:", *lines]) if lines else ""


def check_relevance(
    classifier: Classifier,
    frame: pd.DataFrame,
    *,
    hidden: int = 0,
    boxes: Annotations | None = None,
    zones: Annotations | None = None,
    explanation: Explanation | None = None,
    resamples: int = 2000,
    seed: int = 0,
    store: ImageStore | None = None,
) -> RelevanceChecks:
    """Looks closer at the maps of some images of a manifest, all of them with a lung mask.

    Args:
        classifier: The classifier.
        frame: As `cxr_isnet.manifests.read_manifest` returns it.
        hidden: How many images are hidden part by part, drawn at random; their maps are those of the predicted class.
        boxes: Boxes around findings; the map is that of the class that the table names, else of the image's label.
        zones: Scores of the zones of the lungs, likewise.
        explanation: How maps are made; None takes the method's own way.
        resamples: Of the intervals.
        seed: Of the draw, the order at random and the intervals.
        store: Where images are kept once they have been read; None reads them each time.

    Raises:
        InputError: The classifier has no maps; a table is of other images, or names a class that the classifier lacks.
    """
    for marks in (boxes, zones):
        if marks is not None:
            check_annotations(marks, frame, classifier.classes)
    masked = frame[frame["mask"] != ""]
    explained = partial(_explained, classifier, explanation, store)
    tables = [
        _hidden(classifier, explained(_drawn(masked, hidden, seed), None), seed),
        *(
            _annotated(explained, masked, classifier.classes, *pair)
            for pair in ((boxes, _on_boxes), (zones, _in_zones))
        ),
    ]
    table = pd.concat([part for part in tables if len(part)] or [tables[0]], ignore_index=True)
    intervals = {}
    for name in _MEASURES:
        if name in table.columns and table[name].notna().any():
            rows = table[table[name].notna()]
            metric = WeightedMean(rows[name].to_numpy(dtype=np.float64))
            intervals[name] = PatientBootstrap.of(rows, resamples=resamples, seed=seed).intervals({name: metric})[name]
    return RelevanceChecks(table, intervals)


def check_annotations(marked: Annotations, frame: pd.DataFrame, classes: Sequence[str]) -> None:
    """Whether a table is of a manifest's images, and its labels are a classifier's; raises `InputError`."""
    marked.check_join(frame)
    unknown = sorted(set(marked.labels.values()) - set(classes))
    if unknown:
        raise InputError(
            f"{marked.table}: column 'label' names {', '.join(map(repr, unknown))}; the classifier's classes are "
            f"{', '.join(classes)}. Give the class that the finding speaks for, or leave the column out"
        )


def _drawn(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return rows.iloc[np.sort(chosen)]


@dataclass(frozen=True)
class _Explained:
    """Images of a manifest's rows with their maps.

    Attributes:
        rows: Of the manifest.
        images: (N, 1, H, W).
        lungs: (N, 1, H, W) of 0 and 1.
        all_maps: (N, classes, H, W).
        classes: (N,) index of the class whose map is looked at.
    """

    rows: pd.DataFrame
    images: torch.Tensor
    lungs: FloatArray
    all_maps: FloatArray
    classes: IntArray

    @property
    def maps(self) -> FloatArray:
        """(N, H, W), of the class that is looked at."""
        return self.all_maps[np.arange(len(self.classes)), self.classes]

    def table(self, names: Sequence[str], **columns: FloatArray) -> pd.DataFrame:
        """A row per image."""
        found = pd.DataFrame({"path": self.rows["image"].astype(str).tolist()})
        for column in ("patient_id", "site"):
            found[column] = self.rows[column].astype(str).tolist()
        found["label"] = [names[place] for place in self.classes]
        return found.assign(**columns)


def _explained(
    classifier: Classifier,
    explanation: Explanation | None,
    store: ImageStore | None,
    rows: pd.DataFrame,
    labels: Mapping[str, str] | None,
) -> Iterator[_Explained]:
    """Batches of images with their maps; `labels` says the class by image, None takes the predicted one."""
    if rows.empty:
        return
    explainer = classifier.explainer(explanation)
    if explainer.explain is None:
        raise InputError(f"the classifier has no maps to look at: {explainer.reason}")
    dataset = make_dataset(rows, classifier.classes, classifier.image, store=store, labelled=False)
    index = {name: place for place, name in enumerate(classifier.classes)}
    start = 0
    for read in read_batches(dataset, _BATCH, 0):
        readable = [place for place, (_, error) in enumerate(read) if not error]  # why not, the predictions table says
        part = rows.iloc[[start + place for place in readable]]
        start += len(read)
        if not readable:
            continue
        images, lungs = (torch.stack([read[place][0][key] for place in readable]) for key in ("image", "mask"))
        logits, maps = explainer.explain(images.to(classifier.device))
        classes = logits.argmax(1).cpu().numpy()
        if labels is not None:
            classes = np.array([index[labels[image]] for image in part["image"]])
        yield _Explained(part, images, lungs.numpy(), maps.float().cpu().numpy(), classes)


def _hidden(classifier: Classifier, explained: Iterator[_Explained], seed: int) -> pd.DataFrame:
    """Hiding, and the lungs of other patients."""
    parts = list(explained)
    if not parts:
        return pd.DataFrame()
    table = pd.concat(
        [
            part.table(
                classifier.classes,
                occlusion_gain=occlusion_gain(classifier.probabilities, part.images, part.maps, part.classes, seed),
            )
            for part in parts
        ],
        ignore_index=True,
    )
    maps = np.concatenate([np.abs(part.all_maps).sum(axis=1, keepdims=True) for part in parts])
    lungs, known = np.concatenate([part.lungs for part in parts]), np.ones(len(maps))
    own = relevance_in_lung(maps, lungs, known)
    others = relevance_in_other_lungs(maps, lungs, known, patient_numbers(table))
    return table.assign(relevance_in_lung=own, relevance_in_other_lungs=others, lung_excess=own - others)


def _annotated(
    explained: Callable[[pd.DataFrame, Mapping[str, str]], Iterator[_Explained]],
    masked: pd.DataFrame,
    classes: Sequence[str],
    marks: Annotations | None,
    measure: Callable[[Annotations, _Explained], FloatArray],
) -> pd.DataFrame:
    """The images that a table marks, of which the class is known."""
    if marks is None:
        return pd.DataFrame()
    said = dict(zip(masked["image"], masked["label"], strict=True)) | dict(marks.labels)
    marked = set(marks.images)
    rows = masked[[image in marked and said[image] in classes for image in masked["image"]]]
    parts = [(part.table(classes), measure(marks, part)) for part in explained(rows, said)]
    if not parts:
        return pd.DataFrame()
    table = pd.concat([part for part, _ in parts], ignore_index=True)
    found = np.concatenate([values for _, values in parts])
    if marks.boxes:
        pointing, shares, chance = found.T
        values = (pointing, shares, chance, pointing - chance, shares - chance)
        return table.assign(**dict(zip(_OF_BOXES, values, strict=True)))
    scores = np.stack([marks.zones[image] for image in table["path"]])
    own = zone_agreement(found, scores)
    others = zone_agreement_with_others(found, scores, patient_numbers(table))
    return table.assign(zone_agreement=own, zone_chance=others, zone_excess=own - others)


def _on_boxes(marks: Annotations, part: _Explained) -> FloatArray:
    """Pointing, share on the finding and by chance (N, 3)."""
    regions = box_regions([marks.boxes[image] for image in part.rows["image"]], part.lungs.shape[-1])
    within = part.lungs > 0.5
    pointing = pointing_game(np.where(within[:, 0], part.maps, 0.0), regions & within)
    return np.stack([pointing, *relevance_on_findings(part.maps, regions, part.lungs)], axis=1)


def _in_zones(marks: Annotations, part: _Explained) -> FloatArray:
    """Relevance of the zones (N, 6)."""
    return zone_relevance(part.maps, part.lungs)
