"""A method in one file: cross-entropy and a penalty on input gradients outside the lungs (Ross et al. 2017).

Used from a config as `method: tests.examples.input_gradient.METHOD`, with `options: {custom: {strength: 10}}`.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_isnet.objectives import Batch, Explanation, Method, Objective


@dataclass(frozen=True)
class Options:
    """Settings.

    Attributes:
        strength: Weight of the penalty.
    """

    strength: float = 1.0


class InputGradientPenalty(Objective):
    needs_gradients = True

    def __init__(self, network: torch.nn.Module, strength: float) -> None:
        super().__init__(network)
        self.strength = strength

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        image = batch["image"].detach().requires_grad_()
        logits = self.network(image)
        (gradient,) = torch.autograd.grad(F.log_softmax(logits, 1).sum(), image, create_graph=self.training)
        outside = (1 - batch["mask"]) * batch["has_mask"].view(-1, 1, 1, 1)
        penalty = (gradient * outside).square().sum((1, 2, 3)).mean()
        classification = F.cross_entropy(logits, batch["label"])
        return {"logits": logits, "loss": classification + self.strength * penalty, "penalty": penalty}


def build(network: torch.nn.Module, backbone: Any, options: Options) -> InputGradientPenalty:
    return InputGradientPenalty(network, options.strength)


METHOD = Method(
    "input_gradient", "penalty on input gradients outside the lungs", Options, build,
    explanation=Explanation.INPUT_GRADIENT, needs_masks=True,
)  # fmt: skip
