"""From prepared images to the masks of lungs found in them, each with its quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cxr_isnet.segmentation.postprocessing import clean, to_image_size
from cxr_isnet.segmentation.quality import MaskQuality, measure_mask
from cxr_isnet.segmentation.segmenter import Segmenter, agreement


@dataclass(frozen=True)
class FoundLungs:
    """The lungs of one image.

    Attributes:
        mask: (rows, columns) uint8 of 0 and 1, of the image's own size.
        quality: What was measured on it.
    """

    mask: NDArray[np.uint8]
    quality: MaskQuality


def find_lungs(segmenter: Segmenter, images: Tensor, shapes: list[tuple[int, int]]) -> list[FoundLungs]:
    """Segments a batch: mean of the views, brought to each image's size, two largest components, holes filled.

    Args:
        segmenter: The segmenter.
        images: (B, 1, size, size) in [0, 1], as `prepare_image` gives them.
        shapes: Rows and columns of each image before it was prepared.
    """
    views = segmenter.views(images)
    found = []
    for probability, agreed, shape in zip(views.mean(dim=1), agreement(views), shapes, strict=True):
        cleaned = clean(to_image_size(probability.numpy(), shape))
        quality = measure_mask(cleaned.mask, fragments=cleaned.fragments, agreement=float(agreed))
        found.append(FoundLungs(cleaned.mask, quality))
    return found
