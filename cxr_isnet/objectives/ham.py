"""HAM: class activation maps that are trained, of "any anomaly" and of each disease, with the lungs as their target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.losses import usable_masks
from cxr_isnet.networks import Backbone, HierarchicalAttention, resize
from cxr_isnet.objectives.method import Explanation, Method
from cxr_isnet.objectives.objective import Batch, Objective

_SLOPE = 100.0
"""Of the sigmoid that makes a map nearly 0 or 1."""


@dataclass(frozen=True)
class HAMOptions:
    """Settings of HAM.

    Attributes:
        normal_class: Index, in data.classes, of the class that means no disease.
        anomaly_weight: Of the classification of "any anomaly".
        bound_weight: Of what a disease's map has outside the anomaly's.
        union_weight: Of what the anomaly's map has outside the disease's.
        mask_weight: Of the difference between a disease's map and the lung mask.
        threshold: Value of a map, between its minimum 0 and its maximum 1, above which it counts.
    """

    normal_class: int = 0
    anomaly_weight: float = 0.01
    bound_weight: float = 0.001
    union_weight: float = 0.001
    mask_weight: float = 0.5
    threshold: float = 0.4

    def __post_init__(self) -> None:
        for name in ("normal_class", "anomaly_weight", "bound_weight", "union_weight", "mask_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}; it must lie between 0 and 1")


class AttentionMining(Objective):
    """Hierarchical attention mining (Ouyang et al., IEEE TMI, 2021) for one label per image.

    loss = diseases + anomaly_weight * anomaly + bound_weight * bound + union_weight * union + mask_weight * mask.
    `diseases` and `anomaly` are binary cross-entropies, of each disease and of any; the anomaly's logit is the negative
    logit of the normal class, and the softmax of all logits is what is evaluated. The others are of class activation
    maps C of the size of the image, cut at 0, rescaled to [0, 1] and sharpened around the threshold; sums go over all
    pixels of the images meant, S is the sharpening:

    - mask, for each disease over its images with a mask m: sum (C - m)^2 / (sum C + sum m);
    - bound, for each disease over its images: (sum C - sum min(C, C_anomaly) S(C)) / sum C;
    - union, over all images with a disease: the same with the two maps exchanged, C of the image's disease.

    Args:
        network: What classifies by class activation maps.
        options: Settings.

    Raises:
        InputError: The network has no such normal class.
    """

    network: HierarchicalAttention

    def __init__(self, network: HierarchicalAttention, options: HAMOptions) -> None:
        super().__init__(network)
        self._options = options
        classes = network.head.out_features
        if options.normal_class >= classes:
            raise InputError(
                f"normal_class is {options.normal_class}, but there are {classes} classes: give its index in "
                f"data.classes, 0 to {classes - 1}"
            )
        self._diseases = [index for index in range(classes) if index != options.normal_class]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and its terms `diseases`, `anomaly`, `bound`, `union`, `mask`; `masked`: images with mask."""
        logits, evidence = self.network.logits_and_evidence(batch["image"])
        options, normal = self._options, self._options.normal_class
        with torch.autocast(batch["image"].device.type, enabled=False):
            scores, evidence = logits.float(), evidence.float()
            present = F.one_hot(batch["label"], scores.shape[1]).float()[:, self._diseases]
            anomalous = (batch["label"] != normal).float()
            diseases = F.binary_cross_entropy_with_logits(scores[:, self._diseases], present)
            anomaly = F.binary_cross_entropy_with_logits(-scores[:, normal], anomalous)
            maps = self._refined(evidence[:, self._diseases], batch["image"])
            anomaly_map = self._refined(-evidence[:, normal : normal + 1], batch["image"])
            own = (maps * present[:, :, None, None]).sum(1, keepdim=True)
            bound = _mean_over(self._outside(maps, anomaly_map, present), present)
            union = self._outside(anomaly_map, own, anomalous[:, None])[0]
            usable = usable_masks(batch["mask"], batch["has_mask"]).float()
            masked = present * usable[:, None]
            mask = _mean_over(_difference(maps, batch["mask"], masked), masked)
            loss = diseases + options.anomaly_weight * anomaly + options.bound_weight * bound
            loss = loss + options.union_weight * union + options.mask_weight * mask
        return {
            "logits": logits,
            "loss": loss,
            "diseases": diseases,
            "anomaly": anomaly,
            "bound": bound,
            "union": union,
            "mask": mask,
            "masked": usable.sum(),
        }

    def _refined(self, evidence: Tensor, images: Tensor) -> Tensor:
        """Maps (B, K, h, w) at the size of the images, cut at 0, from 0 to 1, sharpened."""
        maps = resize(evidence.relu(), images)
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return self._sharpened((maps - low) / (high - low).clamp_min(1e-8))

    def _sharpened(self, maps: Tensor) -> Tensor:
        return torch.sigmoid(_SLOPE * (maps - self._options.threshold))

    def _outside(self, maps: Tensor, others: Tensor, chosen: Tensor) -> Tensor:
        """Share (K,) of maps (B, K, H, W) that is not in others (B, 1, H, W), over the images chosen (B, K)."""
        inside = torch.minimum(maps, others) * self._sharpened(maps)
        total = _sum(maps, chosen)
        return (total - _sum(inside, chosen)) / total.clamp_min(1e-5)


def _difference(maps: Tensor, mask: Tensor, chosen: Tensor) -> Tensor:
    """Squared difference (K,) of maps (B, K, H, W) and mask (B, 1, H, W) by their sum, of the images chosen (B, K)."""
    size = _sum(maps, chosen) + _sum(mask.expand_as(maps), chosen)
    return _sum((maps - mask).square(), chosen) / size.clamp_min(1e-5)


def _sum(values: Tensor, chosen: Tensor) -> Tensor:
    """Sum (K,) of (B, K, H, W) over pixels and the images chosen (B, K)."""
    return (values.sum((2, 3)) * chosen).sum(0)


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (K,) over the classes for which an image is chosen (B, K); 0 where there is none."""
    there = (chosen.sum(0) > 0).float()
    return (values * there).sum() / there.sum().clamp_min(1)


def _build(network: nn.Module, backbone: Backbone, options: HAMOptions) -> AttentionMining:
    assert isinstance(network, HierarchicalAttention)
    return AttentionMining(network, options)


HAM = Method(
    "ham",
    "hierarchical attention mining: activation maps of anomaly and diseases, trained on lung masks",
    HAMOptions,
    _build,
    network="ham",
    network_class=HierarchicalAttention,
    explanation=Explanation.ATTENTION,
    needs_masks=True,
)
