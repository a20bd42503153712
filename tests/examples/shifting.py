"""A method with settings of its predictor and of its loss: classify brighter images, weigh the loss."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.objectives import Batch, Method, Objective


@dataclass(frozen=True)
class Options:
    """Settings.

    Attributes:
        by: What is added to the grey values.
        factor: Weight of the loss.
    """

    by: float = 0.0
    factor: float = 1.0


class Shifted(nn.Module):
    def __init__(self, network: nn.Module, by: float) -> None:
        super().__init__()
        self.network = network
        self.by = by

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.by)


class Weighted(Objective):
    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__(network)
        self.factor = factor

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["image"])
        return {"logits": logits, "loss": self.factor * F.cross_entropy(logits, batch["label"])}


def build(network: nn.Module, backbone: Any, options: Options) -> Weighted:
    return Weighted(network, options.factor)


METHOD = Method(
    "shifting", "brighter images", Options, build, predictor=lambda network, options: Shifted(network, options.by)
)
