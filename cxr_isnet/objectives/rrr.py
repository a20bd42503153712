"""Right for the right reasons: cross-entropy and a penalty on input gradients outside the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.losses import usable_masks
from cxr_isnet.networks import Backbone
from cxr_isnet.objectives.method import Explanation, Method
from cxr_isnet.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class RightReasonsOptions:
    """Settings of right for the right reasons.

    Attributes:
        weight: Of the penalty, 0 or more. On phantoms with a planted mark, 1 is a nudge and 100 stops learning.
    """

    weight: float = 10.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise InputError(f"weight is {self.weight}; it must be 0 or more")


class RightReasons(Objective):
    """loss = cross-entropy + weight * mean over the images with a mask of the squared input gradients outside it.

    The gradient is that of the sum over the classes of the log probabilities, by the pixels of one image, of the
    network as it is in use: with the running statistics of its batch norms, through which no image sees the others of
    its batch. It is taken of a sum over the batch: of a mean over B images the penalty would be 1 / B^2, and its weight
    depend on the size of the batch.

    Source:
        Ross, Hughes, Doshi-Velez, Right for the right reasons, IJCAI 2017, without the penalty on the weights, which
        is the optimiser's.
    """

    needs_gradients = True
    takes_loss_weights = True

    def __init__(self, network: nn.Module, options: RightReasonsOptions) -> None:
        super().__init__(network)
        self._weight = options.weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and its terms `classification` and `penalty`; `masked`: images with mask."""
        logits = self.network(batch["image"])
        classification = self.classification_loss(logits, batch)
        gradient = self._gradient(batch["image"])
        usable = usable_masks(batch["mask"], batch["has_mask"])
        outside = (1 - batch["mask"]) * usable[:, None, None, None]
        penalty = (gradient.float() * outside).square().sum() / usable.sum().clamp(min=1)
        return {
            "logits": logits,
            "loss": classification + self._weight * penalty,
            "classification": classification,
            "penalty": penalty,
            "masked": usable.sum().to(penalty.dtype),
        }

    def _gradient(self, image: Tensor) -> Tensor:
        """Of the sum of all log probabilities by the pixels, (B, 1, H, W), of the network as it is in use."""
        training = self.training
        pixels = image.detach().requires_grad_()
        self.network.eval()
        try:
            log_probabilities = F.log_softmax(self.network(pixels).float(), 1)
        finally:
            self.network.train(training)
        (gradient,) = torch.autograd.grad(log_probabilities.sum(), pixels, create_graph=training)
        return gradient


def _build(network: nn.Module, backbone: Backbone, options: RightReasonsOptions) -> RightReasons:
    return RightReasons(network, options)


RRR = Method(
    "rrr",
    "cross-entropy and a penalty on input gradients outside the lungs (right for the right reasons)",
    RightReasonsOptions,
    _build,
    explanation=Explanation.INPUT_GRADIENT,
    needs_masks=True,
)
