"""Images of an audit: X-rays with lung masks, their classes, hospitals and patients."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from cxr_isnet.data import ImageConfig, MarkConfig, MarkMode, PlantMarkd, prepare_image, prepare_mask, read_pair
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import IntArray

logger = logging.getLogger(__name__)

MIN_PATIENTS = 10
"""Fewer patients give no usable interval."""


@dataclass(frozen=True)
class AuditSet:
    """Images, masks and labels of an audit, in memory.

    Attributes:
        images: (N, 1, H, W) float32 in [0, 1], resized, with the grey values as read: a model equalizes them after
            they were altered, so that what was hidden does not show in the greys of the rest.
        masks: (N, 1, H, W) float32 of 0 and 1, the lungs.
        labels: (N,) index of the class.
        sites: (N,) index of the hospital.
        patients: (N,) number of the patient, 0 ... P-1.
        classes: names of the classes, in the order of the model's outputs.
        site_names: names of the hospitals.
    """

    images: Tensor
    masks: Tensor
    labels: IntArray
    sites: IntArray
    patients: IntArray
    classes: tuple[str, ...]
    site_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def stratified_rows(self, count: int, seed: int) -> IntArray:
        """Rows of a stratified sample, ascending: whole patients, in turn from every class at every site.

        Args:
            count: most images.
            seed: of the sample.
        """
        frame = pd.DataFrame({"site": self.sites, "label": self.labels, "patient_id": self.patients})
        return _stratified_rows(frame, count, seed)

    def subset(self, rows: IntArray) -> AuditSet:
        """These rows, in this order."""
        parts = {name: getattr(self, name)[rows] for name in ("images", "masks", "labels", "sites", "patients")}
        return replace(self, **parts)


def load_audit_set(
    frame: pd.DataFrame,
    classes: Sequence[str],
    size: int,
    *,
    mark: MarkConfig | None = None,
    most_images: int,
    seed: int = 0,
) -> AuditSet:
    """Read the images of a manifest that have a mask.

    Args:
        frame: as `cxr_isnet.manifests.read_manifests` returns it.
        classes: names of the classes, in the order of the model's outputs.
        size: rows and columns of the images, in pixels.
        mark: appearance of marks that are planted first, each class its own; None for the images as they are.
        most_images: a larger manifest is sampled down to this, by patient, evenly over sites and classes.
        seed: of the sampling.

    Raises:
        InputError: a file cannot be used; fewer than `MIN_PATIENTS` patients with a mask, or a single class.
    """
    masked = frame[frame["mask"] != ""].reset_index(drop=True)
    _check(masked, len(frame))
    if len(masked) > most_images:
        logger.info("auditing %d of %d images", most_images, len(masked))
        masked = masked.iloc[_stratified_rows(masked, most_images, seed)].reset_index(drop=True)
    plain = ImageConfig(size, equalize=False)
    plant = PlantMarkd(mark, MarkMode.BIASED, len(classes)) if mark else None
    images, masks = [], []
    labels = np.array([list(classes).index(label) for label in masked["label"]], dtype=np.int64)
    rows = tqdm(zip(masked["image"], masked["mask"], labels, strict=True), total=len(masked), desc="read", disable=None)
    for image, mask, label in rows:
        pixels, lungs = read_pair(image, mask)
        if lungs is None:
            raise InputError(f"{image}: column 'mask' is empty; give the lungs")
        item: dict[Hashable, Any] = {
            "image": prepare_image(pixels, plain),
            "mask": prepare_mask(lungs, plain),
            "has_mask": True,
            "label": label,
            "path": image,
        }
        if plant:
            item = plant(item)
        images.append(item["image"])
        masks.append(item["mask"])
    site_names, sites = np.unique(masked["site"].astype(str), return_inverse=True)
    return AuditSet(
        images=torch.stack(images),
        masks=torch.stack(masks),
        labels=labels,
        sites=sites.astype(np.int64),
        patients=_patient_numbers(masked),
        classes=tuple(classes),
        site_names=tuple(str(name) for name in site_names),
    )


def _check(masked: pd.DataFrame, n_images: int) -> None:
    patients = len(masked[["site", "patient_id"]].drop_duplicates())
    if patients < MIN_PATIENTS:
        raise InputError(
            f"column 'mask': {len(masked)} of {n_images} images have one, of {patients} patients; an audit needs "
            f"{MIN_PATIENTS} patients. Fill it in, for example with `cxr-isnet segment predict`"
        )
    if masked["label"].nunique() < 2:
        raise InputError(
            f"column 'label': all images with a mask are {masked['label'].iloc[0]!r}; an audit needs two classes. "
            "Add images of another class"
        )


def _patient_numbers(frame: pd.DataFrame) -> IntArray:
    return np.asarray(frame.groupby(["site", "patient_id"], sort=False).ngroup(), dtype=np.int64)


def _stratified_rows(frame: pd.DataFrame, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of whole patients, taken in turn from every class at every site, until `count` images are reached."""
    numbers = _patient_numbers(frame)
    first = frame.assign(number=numbers).drop_duplicates("number")
    order = first.iloc[np.random.default_rng(seed).permutation(len(first))]
    turn = order.groupby(["site", "label"]).cumcount().to_numpy()
    rank = np.empty(len(first), dtype=np.int64)
    rank[order["number"].to_numpy()[np.argsort(turn, kind="stable")]] = np.arange(len(first))
    return np.sort(np.argsort(rank[numbers], kind="stable")[:count]).astype(np.int64)
