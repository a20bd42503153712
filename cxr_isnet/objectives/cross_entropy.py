"""The plain classifier: cross-entropy and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from cxr_isnet.networks import Backbone
from cxr_isnet.objectives.method import Method
from cxr_isnet.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class CrossEntropyOptions:
    """Cross-entropy has no settings."""


class CrossEntropy(Objective):
    """loss = cross-entropy of the labels."""

    takes_loss_weights = True

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["image"])
        return {"logits": logits, "loss": self.classification_loss(logits, batch)}


def _build(network: nn.Module, backbone: Backbone, options: CrossEntropyOptions) -> CrossEntropy:
    return CrossEntropy(network)


CROSS_ENTROPY = Method("cross_entropy", "the plain classifier", CrossEntropyOptions, _build)
