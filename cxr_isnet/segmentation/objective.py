"""What a training step of the segmenter minimises."""

from __future__ import annotations

from monai.losses import DiceCELoss
from torch import Tensor, nn

from cxr_isnet.objectives.objective import Batch, Objective
from cxr_isnet.segmentation.overlap import LUNG, dice


class LungOverlap(Objective):
    """loss = 1 - soft Dice + binary cross-entropy, per image, then averaged; `dice` is that of the thresholded map.

    Source: MONAI's `DiceCELoss`; soft Dice after Milletari et al. 2016 (V-Net), without the squared denominator.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._loss = DiceCELoss(sigmoid=True)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["image"]).float()
        lungs = logits.detach().sigmoid() >= LUNG
        return {"loss": self._loss(logits, batch["mask"]), "dice": dice(lungs, batch["mask"]).mean()}
