"""From a probability map to a mask that looks like two lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import interpolate

from cxr_isnet.segmentation.overlap import LUNG

MOST_LUNGS = 2


@dataclass(frozen=True)
class Cleaned:
    """A mask after post-processing.

    Attributes:
        mask: (rows, columns) uint8 of 0 and 1: the two largest components, holes filled.
        fragments: Share of the raw mask that lay in other components and was dropped; 0 of an empty mask.
    """

    mask: NDArray[np.uint8]
    fragments: float


def clean(raw: NDArray[np.bool_]) -> Cleaned:
    """Keeps the two largest components (pixels that touch at a side) and fills their holes.

    Args:
        raw: (rows, columns) of True where the network sees lung.
    """
    labels, count = ndimage.label(raw)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = 1 + np.argsort(-sizes, kind="stable")[:MOST_LUNGS]
    kept = np.isin(labels, largest)
    total = int(sizes.sum())
    fragments = 1.0 - float(kept.sum()) / total if total else 0.0
    return Cleaned(ndimage.binary_fill_holes(kept).astype(np.uint8), fragments)


def to_image_size(probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a map, brought to the size of its image, says lung.

    Args:
        probability: (size, size) in [0, 1], of the image squeezed to a square.
        shape: rows and columns of the image.
    """
    resized = interpolate(torch.from_numpy(probability)[None, None], size=shape, mode="bilinear", antialias=True)
    return np.asarray(resized[0, 0].numpy() >= LUNG)
