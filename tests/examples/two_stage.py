"""A method whose network predicts through a second network: segment the lungs, blacken the rest, classify."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.objectives import Batch, Explanation, Method, Objective


@dataclass(frozen=True)
class Options:
    """No settings."""


class SegmentThenClassify(nn.Module):
    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.segmenter = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 1, 1))
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images * self.segmenter(images).sigmoid().detach())


class TwoStage(Objective):
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["image"])
        lungs = self.network.segmenter(batch["image"])
        per_image = F.binary_cross_entropy_with_logits(lungs, batch["mask"], reduction="none").mean((1, 2, 3))
        overlap = (per_image * batch["has_mask"]).mean()
        return {"logits": logits, "loss": F.cross_entropy(logits, batch["label"]) + overlap, "segmentation": overlap}


def build(network: nn.Module, backbone: Any, options: Options) -> TwoStage:
    return TwoStage(network)


METHOD = Method(
    "two_stage", "segment, mask, classify", Options, build,
    predictor=lambda network, options: SegmentThenClassify(network), explanation=Explanation.INPUT_GRADIENT,
)  # fmt: skip
