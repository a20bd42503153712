"""GAIN: Grad-CAM that is trained, to find all of the class's evidence and to lie in the lungs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cxr_isnet.errors import InputError
from cxr_isnet.losses import usable_masks
from cxr_isnet.networks import Backbone, activation_map, as_they_are, logits_and_features, resize
from cxr_isnet.objectives.method import Explanation, Method
from cxr_isnet.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class GAINOptions:
    """Settings of GAIN.

    Attributes:
        mining_weight: alpha, of the class's probability once what the map shows is erased.
        supervision_weight: w, of the mean squared difference of map and lung mask.
        slope: omega, of the sigmoid that turns the map into what is erased.
        threshold: sigma, value of the map from which more than half of a pixel is erased.
        normalise: Divide each map by its maximum, so that it lies in [0, 1] as mask and threshold do. Without, as in
            the reference implementation, the size of the logits decides how much of the map is above the threshold.
    """

    mining_weight: float = 1.0
    supervision_weight: float = 10.0
    slope: float = 10.0
    threshold: float = 0.5
    normalise: bool = True

    def __post_init__(self) -> None:
        for name in ("mining_weight", "supervision_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.slope <= 0:
            raise InputError(f"slope is {self.slope}; it must be above 0")
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}; it must lie between 0 and 1")


class GuidedAttention(Objective):
    """Extended guided attention inference network (Li et al., Tell me where to look, CVPR 2018, arXiv 1802.10171).

    loss = cross-entropy + mining_weight * mining + supervision_weight * supervision, where A is the label's Grad-CAM at
    the size of the image; mining is the mean probability of the label for the image x (1 - T), T = sigmoid(slope (A -
    threshold)), by the same weights; and supervision is the mean of (A - mask)^2 over the images that have a mask.

    Erased images do not move the running statistics of batch norms: those of whole images are what is used later.

    Args:
        network: A classifier.
        layer: Module path of its last feature maps.
        options: Settings.
        feature_maps: From what that layer gives to maps (B, C, h, w).
    """

    needs_gradients = True
    takes_loss_weights = True

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        options: GAINOptions,
        feature_maps: Callable[[Tensor], Tensor] = as_they_are,
    ) -> None:
        super().__init__(network)
        self._layer, self._feature_maps = layer, feature_maps
        self._options = options

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and its terms `classification`, `mining`, `supervision`; `masked`: images with mask."""
        image, label, options = batch["image"], batch["label"], self._options
        logits, features = logits_and_features(self.network, self._layer, image)
        with torch.autocast(image.device.type, enabled=False):
            classification = self.classification_loss(logits, batch)
            score = _of_label(logits.float(), label).sum()
            attention = resize(activation_map(score, features, self._feature_maps), image)
            if options.normalise:
                attention = attention / attention.amax((2, 3), keepdim=True).clamp_min(1e-8)
            erased = torch.sigmoid(options.slope * (attention - options.threshold))
        statistics = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        rest = functional_call(self.network, statistics, (image * (1 - erased),))
        mining = _of_label(rest.float().softmax(1), label).mean()
        masked = usable_masks(batch["mask"], batch["has_mask"]).float()
        difference = (attention - batch["mask"]).square().mean((1, 2, 3))
        supervision = (difference * masked).sum() / masked.sum().clamp_min(1)
        loss = classification + options.mining_weight * mining + options.supervision_weight * supervision
        return {
            "logits": logits,
            "loss": loss,
            "classification": classification,
            "mining": mining,
            "supervision": supervision,
            "masked": masked.sum(),
        }


def _of_label(values: Tensor, label: Tensor) -> Tensor:
    """Of values (B, classes), those (B,) of the labels."""
    return values.gather(1, label[:, None])[:, 0]


def _build(network: nn.Module, backbone: Backbone, options: GAINOptions) -> GuidedAttention:
    return GuidedAttention(network, backbone.supervised_layers[-1], options, backbone.feature_maps)


GAIN = Method(
    "gain",
    "Grad-CAM trained to find all evidence, in the lungs",
    GAINOptions,
    _build,
    explanation=Explanation.GRAD_CAM,
    needs_feature_maps=True,
    needs_masks=True,
)
