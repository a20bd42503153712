"""The last linear layer, which separates the classes, and the features that it reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxr_isnet.errors import InputError


def last_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """Path, as in `named_modules`, and module of the last linear layer.

    Raises:
        InputError: The network has none.
    """
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not found:
        raise InputError(f"{type(network).__name__} has no linear layer whose input could serve as features")
    return found[-1]


def penultimate(network: nn.Module, images: Tensor) -> Tensor:
    """Input (B, F) of the last linear layer of a network, for images (B, 1, H, W).

    Raises:
        InputError: The network has no linear layer.
    """
    return logits_and_penultimate(network, images)[1]


@torch.no_grad()
def logits_and_penultimate(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, classes) and, of the same pass, what `penultimate` gives."""
    seen: list[Tensor] = []
    hook = last_layer(network)[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits: Tensor = network(images)
    finally:
        hook.remove()
    return logits, seen[-1]
