"""Mixed-Rand: in training, each image's lungs lie on the background of another image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cxr_isnet.data import paste_lungs
from cxr_isnet.errors import InputError
from cxr_isnet.losses import usable_masks
from cxr_isnet.networks import Backbone
from cxr_isnet.objectives.method import Method
from cxr_isnet.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class BackgroundSwapOptions:
    """Settings of the background swap.

    Attributes:
        probability: That an image with a mask gets another background, in [0, 1]. Below 1 the background tells the
            class of the images that keep theirs.
    """

    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InputError(f"probability is {self.probability}; it must lie in [0, 1]")


class BackgroundSwap(Objective):
    """loss = cross-entropy; in training of images whose background is that of another image of the batch.

    The images with a lung mask swap backgrounds by a random permutation, whatever their classes; the lungs of a
    background are filled with the batch's mean image. Images without a mask stay as they are, and so do validation
    images. Batches of few images swap little: an image can be its own partner, and then stays as it is.

    Source:
        The data set Mixed-Rand of Xiao, Engstrom, Ilyas, Madry, Noise or signal: the role of image backgrounds in
        object recognition, ICLR 2021.
    """

    takes_loss_weights = True

    def __init__(self, network: nn.Module, options: BackgroundSwapOptions) -> None:
        super().__init__(network)
        self._probability = options.probability

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and `swapped`: images with another background."""
        image, swapped = batch["image"], torch.zeros_like(batch["has_mask"])
        if self.training:
            image, swapped = swap_backgrounds(batch, self._probability)
        logits = self.network(image)
        loss = self.classification_loss(logits, batch)
        return {"logits": logits, "loss": loss, "swapped": swapped.sum().to(loss.dtype)}


def swap_backgrounds(batch: Batch, probability: float) -> tuple[Tensor, Tensor]:
    """Images of a batch whose lungs lie on the background of another image of the batch.

    Args:
        batch: Images without a lung mask keep their background and give it to none.
        probability: That an image with a mask gets another background, in [0, 1].

    Returns:
        The images (B, 1, H, W), and which of them (B,) have another's background.
    """
    image, mask = batch["image"], batch["mask"]
    masked = usable_masks(mask, batch["has_mask"])
    kept = (~masked).to(image.dtype)
    draws = torch.rand(2, len(image), device=image.device)
    takers = kept.argsort(stable=True)  # those with a mask first, in their order,
    givers = (draws[0] + kept).argsort()  # and in a random one: no image has to be looked at, which would stop a GPU
    donor = torch.empty_like(takers).scatter_(0, takers, givers)
    chosen = masked & (draws[1] < probability) & (donor != torch.arange(len(image), device=image.device))
    pasted = paste_lungs(image, mask, image[donor], mask[donor], image.mean(0, keepdim=True))
    return torch.where(chosen[:, None, None, None], pasted, image), chosen


def _build(network: nn.Module, backbone: Backbone, options: BackgroundSwapOptions) -> BackgroundSwap:
    return BackgroundSwap(network, options)


BACKGROUND_SWAP = Method(
    "background_swap",
    "cross-entropy of lungs on other images' backgrounds (Mixed-Rand)",
    BackgroundSwapOptions,
    _build,
    needs_masks=True,
)
