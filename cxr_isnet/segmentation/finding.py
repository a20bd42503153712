"""From prepared images to the masks of lungs found in them, each with its quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr_isnet.segmentation.overlap import LUNG, dice
from cxr_isnet.segmentation.postprocessing import clean, to_image_size
from cxr_isnet.segmentation.quality import MaskQuality, measure_mask
from cxr_isnet.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class PredictedMask:
    """The lungs of one image.

    Attributes:
        mask: (rows, columns) uint8 of 0 and 1, of the image's own size.
        quality: What was measured on it.
    """

    mask: NDArray[np.uint8]
    quality: MaskQuality


def predict_masks(segmenter: Segmenter, images: Tensor, shapes: list[tuple[int, int]]) -> list[PredictedMask]:
    """Segments a batch: mean of the views, brought to each image's size, two largest components, holes filled.

    Args:
        segmenter: The segmenter.
        images: (B, 1, size, size) in [0, 1], as `prepare_image` gives them.
        shapes: Rows and columns of each image before it was prepared.
    """
    found = []
    for views, shape in zip(segmenter.views(images), shapes, strict=True):
        cleaned = clean(to_image_size(views.mean(dim=0).numpy(), shape))
        quality = measure_mask(cleaned.mask, fragments=cleaned.fragments, agreement=agreement(views))
        found.append(PredictedMask(cleaned.mask, quality))
    return found


def agreement(views: Tensor) -> float:
    """Lowest Dice of a view's lungs with the lungs of the mean of all views, each post-processed.

    Args:
        views: (views, size, size) in [0, 1], of one image.

    Returns:
        A share; 1 where no view sees lungs.
    """
    together, *single = (torch.from_numpy(clean(view.numpy() >= LUNG).mask) for view in (views.mean(dim=0), *views))
    return float(dice(torch.stack(single), together).min())
