"""Counterfactual images, with something removed or inserted: (N, 1, H, W) float32 in [0, 1]; masks are 0 and 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIM = 0.02
"""Width, as a share of the image's side, of the rim around the lungs that is hidden with them: blur carries what is in
the lungs over the edge of a mask."""


def dilate(masks: Tensor) -> Tensor:
    """Lung masks with a rim around the lungs."""
    reach = max(1, round(RIM * masks.shape[-1]))
    return F.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)


def background_only(images: Tensor, masks: Tensor, grey: float) -> Tensor:
    """Images whose lungs and rim are one grey, the same in all images: an image's own grey would carry information."""
    return torch.where(dilate(masks) > 0, torch.full_like(images, grey), images)


def lungs_only(images: Tensor, masks: Tensor, grey: float) -> Tensor:
    """Images whose background is one grey, the same in all images."""
    return torch.where(masks > 0, images, torch.full_like(images, grey))


def fill_lungs(images: Tensor, masks: Tensor, mean_image: Tensor) -> Tensor:
    """Images whose lungs and rim are those of the mean image (1, 1, H, W)."""
    hidden = dilate(masks)
    return images * (1 - hidden) + mean_image * hidden


def paste_lungs(
    images: Tensor, masks: Tensor, backgrounds: Tensor, background_masks: Tensor, mean_image: Tensor
) -> Tensor:
    """Lungs of images on the backgrounds of others, whose own lungs are filled first.

    The lungs keep their position and size: nothing is warped, so a seam shows where the chests differ.

    Args:
        images: whose lungs are taken.
        masks: their lungs.
        backgrounds: as many images whose background is taken.
        background_masks: their lungs.
        mean_image: (1, 1, H, W), fills the lungs of the backgrounds.
    """
    emptied = fill_lungs(backgrounds, background_masks, mean_image)
    return images * masks + emptied * (1 - masks)


def most_relevant(relevance: Tensor, allowed: Tensor, share: float) -> Tensor:
    """Masks (N, 1, H, W) of 0 and 1 of the pixels with the highest relevance.

    Args:
        relevance: (N, 1, H, W).
        allowed: (N, 1, H, W) of 0 and 1, pixels to choose from.
        share: of the image's pixels that are chosen; fewer where less is allowed.
    """
    size = relevance[0].numel()
    order = torch.where(allowed > 0, relevance, torch.full_like(relevance, -torch.inf)).flatten(1)
    indices = order.topk(min(size, round(share * size)), dim=1).indices
    chosen = torch.zeros_like(order).scatter_(1, indices, 1.0).reshape(relevance.shape)
    return chosen * (allowed > 0)
