"""Controls that have learned from a model's training images, as the network gets them, and their predictions tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_isnet.data import ImageConfig, ImageStore, make_dataset
from cxr_isnet.evaluation import (
    CONTROLS,
    Control,
    FloatArray,
    Predict,
    check_predictions,
    fit_control,
    image_features,
    label_indices,
    mask_features,
    probability_columns,
)
from cxr_isnet.inference.predict import CLEAN_IMAGES, Condition


class PreparedImages:
    """Features of images as a network gets them, each read once for all controls, seeds and partitions."""

    def __init__(self, classes: Sequence[str], image: ImageConfig, store: ImageStore | None = None) -> None:
        """Set up; reads nothing.

        Args:
            classes: names of the classes.
            image: the network's input.
            store: where images are kept once they have been read, for more than controls; None keeps features alone.
        """
        self.classes = tuple(classes)
        self._image = image
        self._store = store
        self._known: dict[tuple[str, str], NDArray[np.float32]] = {}

    def features(self, frame: pd.DataFrame, condition: Condition = CLEAN_IMAGES) -> FloatArray:
        """Features (N, F) of a manifest's rows.

        Args:
            frame: as `cxr_isnet.manifests.read_manifest` returns it.
            condition: what is planted into the images.

        Raises:
            InputError: a file cannot be used.
        """
        keys = [(condition.name, str(path)) for path in frame["image"]]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if new:
            dataset = make_dataset(
                frame.iloc[new], self.classes, self._image, mark=condition.mark, mode=condition.mode,
                store=self._store, labelled=bool(condition.mark),
            )  # fmt: skip
            for number, place in enumerate(new):
                item = dataset[number]
                mask = item["mask"][0].numpy() if bool(item["has_mask"]) else None
                self._known[keys[place]] = np.append(image_features(item["image"][0].numpy()), mask_features(mask))
        return np.stack([self._known[key] for key in keys]).astype(np.float64)


@dataclass(frozen=True)
class FittedControls:
    """Controls that have learned from the same images as a model.

    Attributes:
        images: where they look.
        predictors: control to what it has learned; without those that see too few of the images.
    """

    images: PreparedImages
    predictors: tuple[tuple[Control, Predict], ...]

    @classmethod
    def on(
        cls,
        images: PreparedImages,
        training: pd.DataFrame,
        condition: Condition = CLEAN_IMAGES,
        controls: Iterable[Control] = CONTROLS,
    ) -> FittedControls:
        """Fit to a model's training images; a control that sees no image of some class is left out."""
        features, labels = images.features(training, condition), label_indices(training, images.classes)
        fitted = []
        for control in controls:
            rows = control.sees(features) & (labels >= 0)
            if len(np.unique(labels[rows])) == len(images.classes):
                fitted.append((control, fit_control(control, features[rows], labels[rows], len(images.classes))))
        return cls(images, tuple(fitted))

    def tables(self, frame: pd.DataFrame, condition: Condition = CLEAN_IMAGES) -> dict[str, pd.DataFrame]:
        """Control to its checked predictions of a manifest's rows that it sees; without those that see none."""
        features, found = self.images.features(frame, condition), {}
        for control, predict in self.predictors:
            rows = control.sees(features)
            if rows.any():
                found[control.name] = self._table(control.name, frame[rows], predict(features[rows]))
        return found

    def _table(self, name: str, frame: pd.DataFrame, scores: FloatArray) -> pd.DataFrame:
        columns = {column: frame[column].astype(str).tolist() for column in ("patient_id", "site", "label")}
        table = pd.DataFrame({"path": frame["image"].astype(str).tolist(), **columns, "model_uri": name})
        table["label"] = table["label"].where(table["label"].isin(self.images.classes), "")
        table[probability_columns(self.images.classes)] = scores
        return check_predictions(table, self.images.classes, source=f"control '{name}'")
