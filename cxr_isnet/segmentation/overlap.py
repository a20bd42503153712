"""Overlap of two masks: Dice, IoU, and the loss by which a segmenter is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from cxr_isnet.networks import LUNG_PROBABILITY, Heart
from cxr_isnet.objectives import Batch, Objective


def dice(first: Tensor, second: Tensor) -> Tensor:
    """Dice coefficient: twice the common pixels by the sum of both.

    Args:
        first: (..., H, W) of 0 and 1, or bool.
        second: The same; leading dimensions are broadcast.

    Returns:
        (...) float32 in [0, 1]; 1 where both masks are empty.
    """
    one, other = first.float(), second.float()
    common = (one * other).sum(dim=(-2, -1))
    total = one.sum(dim=(-2, -1)) + other.sum(dim=(-2, -1))
    empty = (total == 0).float()
    return (2 * common + empty) / (total + empty)


def iou(dice_values: Tensor) -> Tensor:
    """Intersection over union, from the Dice of the same two masks: D / (2 - D)."""
    return dice_values / (2 - dice_values)


def between_lungs(mask: Tensor) -> Tensor:
    """What lies between the lungs: in each row, the pixels between the first and the last lung pixel that are no lung.

    It is where annotators differ most: some leave the heart and the mediastinum out, some include most of them.

    Args:
        mask: (..., H, W) of 0 and 1.

    Returns:
        (..., H, W) bool.
    """
    lungs = mask.int()
    after_first = lungs.cummax(dim=-1).values
    before_last = lungs.flip(-1).cummax(dim=-1).values.flip(-1)
    return (after_first * before_last * (1 - lungs)).bool()


class LungOverlap(Objective):
    """loss = 1 - soft Dice + binary cross-entropy, per image, then averaged; `dice` is that of the thresholded map.

    A network with two outputs, lungs without and with the heart, learns each image's given mask at the output of its
    kind. From a mask with the heart the other output learns, by cross-entropy, that the lungs lie within it. Nothing
    is taken from a mask without the heart for the output with it: what lies between the lungs would stay unsaid, and
    that output came to fill it (both lungs in one piece in 73% of the validation masks of the ieee8023 collection).

    Args:
        network: Images (B, 1, H, W) to logits (B, outputs, H, W).
        hearts: Kind of the masks of each site, by its index in a batch; none for a network with one output.

    Source: MONAI's `DiceCELoss`; soft Dice after Milletari et al. 2016 (V-Net), without the squared denominator.
    """

    included: Tensor

    def __init__(self, network: nn.Module, hearts: Sequence[Heart] = ()) -> None:
        super().__init__(network)
        self._loss = DiceCELoss(sigmoid=True)
        included = torch.tensor([heart is Heart.INCLUDED for heart in hearts], dtype=torch.bool)
        self.register_buffer("included", included, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits, mask = self.network(batch["image"]).float(), batch["mask"]
        other = logits.new_zeros(())
        if len(self.included):
            included = self.included[batch["site"]][:, None, None, None]
            left_out, with_heart = logits[:, :1], logits[:, 1:]
            outside = included & (mask == 0)
            other = binary_cross_entropy_with_logits(left_out, torch.zeros_like(mask), weight=outside.float())
            logits = torch.where(included, with_heart, left_out)
        lungs = logits.detach().sigmoid() >= LUNG_PROBABILITY
        return {"loss": self._loss(logits, mask) + other, "dice": dice(lungs, mask).mean()}
