"""Images with something taken out or put in. All take and give (N, 1, H, W) float32 in [0, 1]; masks are 0 and 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIM = 0.02
"""Width, as a share of the image's side, of the rim around the lungs that is hidden with them: blur carries what is in
the lungs over the edge of a mask."""


def widened(masks: Tensor) -> Tensor:
    """The lungs with a rim around them."""
    reach = max(1, round(RIM * masks.shape[-1]))
    return F.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)


def background_only(images: Tensor, masks: Tensor, grey: float) -> Tensor:
    """The lungs and their rim in one grey, the same in all images: a grey of the image's own would tell of the rest."""
    return torch.where(widened(masks) > 0, torch.full_like(images, grey), images)


def lungs_only(images: Tensor, masks: Tensor, grey: float) -> Tensor:
    """All outside the lungs in one grey, the same in all images."""
    return torch.where(masks > 0, images, torch.full_like(images, grey))


def lungs_filled(images: Tensor, masks: Tensor, average: Tensor) -> Tensor:
    """The lungs and their rim replaced by the same place of an average image (1, 1, H, W)."""
    hidden = widened(masks)
    return images * (1 - hidden) + average * hidden


def on_background(lungs: Tensor, masks: Tensor, backgrounds: Tensor, their_masks: Tensor, average: Tensor) -> Tensor:
    """The lungs of one image in place on the background of another, whose own lungs are filled first.

    The lungs keep their place and size: nothing is warped, so a seam shows where the chests differ.
    """
    emptied = lungs_filled(backgrounds, their_masks, average)
    return lungs * masks + emptied * (1 - masks)


def strongest(relevance: Tensor, allowed: Tensor, share: float) -> Tensor:
    """Where the relevance is highest, (N, 1, H, W) of 0 and 1.

    Args:
        relevance: (N, 1, H, W).
        allowed: (N, 1, H, W) of 0 and 1, where to look.
        share: of the image's pixels that are taken; fewer where less is allowed.
    """
    size = relevance[0].numel()
    order = torch.where(allowed > 0, relevance, torch.full_like(relevance, -torch.inf)).flatten(1)
    taken = order.topk(min(size, round(share * size)), dim=1).indices
    chosen = torch.zeros_like(order).scatter_(1, taken, 1.0).reshape(relevance.shape)
    return chosen * (allowed > 0)
