"""Right for the right reasons: cross-entropy and a penalty on input gradients outside the lungs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from cxr_isnet.errors import InputError
from cxr_isnet.losses import usable_masks
from cxr_isnet.networks import Backbone
from cxr_isnet.objectives.method import Explanation, Method
from cxr_isnet.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class RightReasonsOptions:
    """Settings of right for the right reasons.

    Attributes:
        weight: Of the penalty, 0 or more. On phantoms with a planted mark (64 px) none from 0.1 to 100 kept it out;
            with 1 the answer moved least when the mark was swapped.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise InputError(f"weight is {self.weight}; it must be 0 or more")


class RightReasons(Objective):
    """loss = cross-entropy + weight * mean over the images with a mask of the squared input gradients outside it.

    The gradient is that of the sum over the classes of the log probabilities, by the pixels of one image. Batch norms
    are affine in it: their statistics, those of the batch in training, are constants, so that no image sees the others
    of its batch. They are not the running ones in training: a network may classify by the batch's and satisfy the
    penalty by the running ones, where it then tells nothing. The gradient is taken of a sum over the batch: of a mean
    over B images the penalty would be 1 / B^2, and its weight depend on the size of the batch.

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
        with _batch_statistics(self.network) as statistics:
            logits = self.network(batch["image"])
        classification = self.classification_loss(logits, batch)
        gradient = self._gradient(batch["image"], statistics)
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

    def _gradient(self, image: Tensor, statistics: Mapping[str, Tensor]) -> Tensor:
        """Of the sum of all log probabilities by the pixels, (B, 1, H, W), with these statistics as running ones."""
        training = self.training
        pixels = image.detach().requires_grad_()
        self.network.eval()
        try:
            logits = functional_call(self.network, dict(statistics), (pixels,))
        finally:
            self.network.train(training)
        log_probabilities = F.log_softmax(logits.float(), 1)
        (gradient,) = torch.autograd.grad(log_probabilities.sum(), pixels, create_graph=training)
        return gradient


@contextmanager
def _batch_statistics(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Mean and variance, each (C,), of what comes into every batch norm that trains, by the name of its running one."""
    found: dict[str, Tensor] = {}

    def keep(name: str, values: Tensor, dtype: torch.dtype) -> None:
        channels = values.detach().to(dtype).transpose(0, 1).flatten(1)
        found[f"{name}.running_var"], found[f"{name}.running_mean"] = torch.var_mean(channels, 1, correction=0)

    def hook(name: str, dtype: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda norm, given: keep(name, given[0], dtype)

    hooks = [
        norm.register_forward_pre_hook(hook(name, norm.running_mean.dtype))
        for name, norm in network.named_modules()
        if isinstance(norm, _BatchNorm) and norm.training and norm.running_mean is not None
    ]
    try:
        yield found
    finally:
        for registered in hooks:
            registered.remove()


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
