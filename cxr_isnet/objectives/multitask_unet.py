"""Multi-task learning: one encoder classifies and, through a decoder, segments the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.losses import usable_masks
from cxr_isnet.networks import Backbone, MultitaskUNet
from cxr_isnet.objectives.method import Method
from cxr_isnet.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class MultitaskUNetOptions:
    """Settings of the multi-task U-Net.

    Attributes:
        segmentation_weight: lambda in [0, 1]: loss = (1 - lambda) * classification + lambda * segmentation.
    """

    segmentation_weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.segmentation_weight <= 1:
            raise InputError(f"segmentation_weight is {self.segmentation_weight}; it must lie in [0, 1]")


class ClassifyAndSegment(Objective):
    """loss = (1 - lambda) cross-entropy + lambda (1 - soft Dice + binary cross-entropy of the lung mask).

    The segmentation's part is the mean over the images that have a mask. The network predicts by its encoder alone:
    nothing forces what it classifies to be what it segments.

    Source: the multi-task U-Net that Bassi et al. compare ISNet with (Nature Communications 15:291, 2024); soft Dice
    after Milletari et al. 2016 (V-Net), without the squared denominator, as MONAI's `DiceLoss`.

    Args:
        network: What classifies and segments.
        weight: lambda.
    """

    takes_loss_weights = True

    network: MultitaskUNet

    def __init__(self, network: MultitaskUNet, weight: float) -> None:
        super().__init__(network)
        self._weight = weight
        self._dice = DiceLoss(sigmoid=True, reduction="none")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and its terms `classification`, `segmentation`; `masked`: images with mask."""
        logits, lungs = self.network.logits_and_mask(batch["image"])
        with torch.autocast(batch["image"].device.type, enabled=False):
            classification = self.classification_loss(logits, batch)
            masked = usable_masks(batch["mask"], batch["has_mask"]).float()
            entropy = F.binary_cross_entropy_with_logits(lungs.float(), batch["mask"], reduction="none")
            overlap = self._dice(lungs.float(), batch["mask"]) + entropy
            segmentation = (overlap.mean((1, 2, 3)) * masked).sum() / masked.sum().clamp_min(1)
            loss = (1 - self._weight) * classification + self._weight * segmentation
        return {
            "logits": logits,
            "loss": loss,
            "classification": classification,
            "segmentation": segmentation,
            "masked": masked.sum(),
        }


def _build(network: nn.Module, backbone: Backbone, options: MultitaskUNetOptions) -> ClassifyAndSegment:
    assert isinstance(network, MultitaskUNet)
    return ClassifyAndSegment(network, options.segmentation_weight)


MULTITASK_UNET = Method(
    "multitask_unet",
    "a U-Net that classifies at its bottleneck and segments the lungs",
    MultitaskUNetOptions,
    _build,
    network="multitask_unet",
    network_class=MultitaskUNet,
    needs_masks=True,
)
