"""Images and models whose shortcuts are known exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from cxr_isnet.audit import AuditContext, AuditedModel, AuditSet
from cxr_isnet.audit.audited_model import ImageFunction
from cxr_isnet.evaluation.confusion import FloatArray

SIZE = 48
LUNGS = (slice(14, 34), slice(12, 36))
MARK = (slice(2, 9), slice(2, 9))


def make_set(
    *, marked: bool = False, lopsided: bool = False, patients: int = 48, per_patient: int = 1, seed: int = 0
) -> AuditSet:
    """Two hospitals, two classes in equal parts; the ill have brighter lungs, the second hospital a dark border.

    With `marked`, the ill have a white square in the top left corner; `lopsided`, three of four are ill in the first
    hospital and one of four in the second.
    """
    generator = np.random.default_rng(seed)
    labels = np.arange(patients) % 2
    sites = np.arange(patients) // 2 % 2
    if lopsided:
        sites = np.arange(patients) // 4 % 2
        labels = np.where(sites == 0, np.arange(patients) % 4 < 3, np.arange(patients) % 4 == 0).astype(np.int64)
    images = generator.normal(0.4, 0.03, (patients * per_patient, SIZE, SIZE))
    masks = np.zeros_like(images)
    masks[:, *LUNGS] = 1
    labels, sites = (np.repeat(values, per_patient) for values in (labels, sites))
    images[:, *LUNGS] += 0.2 * labels[:, None, None]
    images[sites == 1, 44:] = 0.05
    if marked:
        images[labels == 1, *MARK] = 1.0
    return AuditSet(
        images=torch.from_numpy(images.clip(0, 1)).float()[:, None],
        masks=torch.from_numpy(masks).float()[:, None],
        labels=labels.astype(np.int64),
        sites=sites.astype(np.int64),
        patients=np.repeat(np.arange(patients), per_patient).astype(np.int64),
        classes=("normal", "ill"),
        site_names=("north", "south"),
    )


def two_classes(ill: Tensor) -> FloatArray:
    """(B, 2) probabilities from a score of the ill (B,)."""
    p = torch.sigmoid(ill).double().numpy()
    return np.stack([1 - p, p], axis=1)


def reads_corner(images: Tensor) -> FloatArray:
    """Ill if the top left corner is bright."""
    return two_classes(12 * (images[:, 0, *MARK].mean((1, 2)) - 0.6))


def reads_lungs(images: Tensor) -> FloatArray:
    """Ill if the middle of the lungs is bright; nothing else is seen."""
    return two_classes(30 * (images[:, 0, 18:30, 16:32].mean((1, 2)) - 0.5))


def ignores_all(images: Tensor) -> FloatArray:
    """The same prediction for every image."""
    return np.full((len(images), 2), 0.5)


def maps_at(rows: slice, columns: slice) -> ImageFunction:
    """Heatmaps with all their relevance in one rectangle."""

    def heatmaps(images: Tensor) -> FloatArray:
        maps = np.zeros((len(images), 2, SIZE, SIZE))
        maps[:, :, rows, columns] = images[:, :, rows, columns].double().numpy()
        return maps

    return heatmaps


def noise(share: float, seed: int) -> ImageFunction:
    """Heatmaps of random weights that have nothing to do with those of the model."""

    def heatmaps(images: Tensor) -> FloatArray:
        return np.random.default_rng(seed).normal(size=(len(images), 2, SIZE, SIZE))

    return heatmaps


def make_context(probabilities: ImageFunction, data: AuditSet | None = None, **functions: object) -> AuditContext:
    model = AuditedModel("made by hand", ("normal", "ill"), probabilities, **functions)
    return AuditContext(model, data if data is not None else make_set(), resamples=200)


@pytest.fixture
def context() -> Callable[..., AuditContext]:
    """Makes a context of probabilities and, optionally, images and further functions of the model."""
    return make_context


def value(statistics: Sequence[object], name: str) -> float:
    """The one statistic whose name holds `name`."""
    (found,) = [m for m in statistics if name in m.name]
    return found.value
