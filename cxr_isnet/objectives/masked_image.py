"""Classifiers of the lungs alone: a lung segmenter blackens the background, in training and in use."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.data import lungs_only
from cxr_isnet.losses import usable_masks
from cxr_isnet.networks import LUNG_PROBABILITY, Backbone, SegmenterConfig, build_segmenter
from cxr_isnet.objectives.frozen import PartlyFrozen
from cxr_isnet.objectives.method import Explain, Method
from cxr_isnet.objectives.objective import Batch, Objective
from cxr_isnet.relevance import LRP

BLACK = 0.0


@dataclass(frozen=True)
class SegmenterOptions:
    """Settings of a method that segments the lungs first.

    Attributes:
        segmenter: `best.pt` of `cxr-isnet segment train`; or the config (YAML) of such a training, or its recipe, which
            is then trained first, once. Null trains one, once, on the given masks of `data.training`, in a folder
            `<output>_segmenter`.
        segmenter_network: Its architecture. Taken from its file, whatever is given.
        segmenter_size: Rows and columns of the images that it takes. Taken from its file, whatever is given.
    """

    segmenter: str | None = None
    segmenter_network: SegmenterConfig = field(default_factory=SegmenterConfig)
    segmenter_size: int = 128


@dataclass(frozen=True)
class LungsOnlyOptions(SegmenterOptions):
    """Settings of the classifier of lungs alone: those of the segmenter, and which masks are used in training.

    Attributes:
        given_masks: Training blackens by the mask of the manifest where there is one, and by the segmenter's
            elsewhere; else by the segmenter's everywhere, as in use.
    """

    given_masks: bool = True


class LungClassifier(PartlyFrozen):
    """Finds the lungs by a frozen segmenter, blackens the rest, classifies.

    Args:
        classifier: (B, 1, H, W) to logits (B, classes).
        segmenter: (B, 1, size, size) to logits (B, outputs, size, size); the first output is the lungs.
        size: Rows and columns of the segmenter's images.
    """

    frozen = "segmenter"
    segmenter: nn.Module

    def __init__(self, classifier: nn.Module, segmenter: nn.Module, size: int) -> None:
        super().__init__(segmenter)
        self.classifier = classifier
        self.size = size

    def lungs(self, images: Tensor) -> Tensor:
        """Predicted masks (B, 1, H, W) of 0 and 1 of images (B, 1, H, W): the segmenter's map, resized to them."""
        shape = images.shape[-2:]
        logits = self.segmenter(_resized(images.detach(), (self.size, self.size)))[:, :1]
        return (_resized(logits.float().sigmoid(), (shape[0], shape[1])) >= LUNG_PROBABILITY).to(images.dtype)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(lungs_only(images, self.lungs(images), BLACK))
        return logits


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


class MaskedImages(Objective):
    """loss = cross-entropy of the lungs alone.

    Args:
        network: What segments and classifies.
        given_masks: Training uses the masks of the batch where there are any.
    """

    takes_loss_weights = True

    network: LungClassifier

    def __init__(self, network: LungClassifier, *, given_masks: bool) -> None:
        super().__init__(network)
        self._given_masks = given_masks

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and `in_mask`: share of the pixels that are kept."""
        masks = self.network.lungs(batch["image"])
        if self.training and self._given_masks:
            given = usable_masks(batch["mask"], batch["has_mask"])
            masks = torch.where(given[:, None, None, None], batch["mask"].to(masks.dtype), masks)
        logits = self.network.classifier(lungs_only(batch["image"], masks, BLACK))
        return {"logits": logits, "loss": self.classification_loss(logits, batch), "in_mask": masks.mean()}


def _predictor(network: nn.Module, options: SegmenterOptions) -> LungClassifier:
    return LungClassifier(network, build_segmenter(options.segmenter_network), options.segmenter_size)


def _build(network: nn.Module, backbone: Backbone, options: SegmenterOptions) -> MaskedImages:
    assert isinstance(network, LungClassifier)
    return MaskedImages(network, given_masks=isinstance(options, LungsOnlyOptions) and options.given_masks)


def _explanation(predictor: nn.Module) -> Explain:
    """Relevance of the classifier on the masked image; none outside the mask."""
    assert isinstance(predictor, LungClassifier)
    lrp = LRP(predictor.classifier)

    def explain(images: Tensor) -> tuple[Tensor, Tensor]:
        masks = predictor.lungs(images)
        logits, relevance = lrp(lungs_only(images, masks, BLACK))
        return logits, relevance.image[:, :, 0] * masks

    return explain


TWO_STAGE = Method(
    "two_stage",
    "a U-Net finds the lungs, the image outside them is blackened, and the rest is classified",
    SegmenterOptions,
    _build,
    predictor=_predictor,
    explanation=_explanation,
    frozen=LungClassifier.frozen,
)
LUNGS_ONLY = Method(
    "lungs_only",
    "as two_stage, but trained with the given lung masks where there are any",
    LungsOnlyOptions,
    _build,
    predictor=_predictor,
    explanation=_explanation,
    frozen=LungClassifier.frozen,
)
