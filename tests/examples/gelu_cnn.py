"""Backbones without relevance rules, each in one file: a GELU CNN, and a network that tells where it attends."""

import torch
from torch import Tensor, nn

from cxr_isnet.networks import Backbone


def _build(classes: int, image_size: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=4), nn.GELU(), nn.Conv2d(8, 8, 3, padding=1), nn.GELU(), nn.Flatten(),
        nn.Linear(8 * (image_size // 4) ** 2, classes),
    )  # fmt: skip


class AttentionPool(nn.Module):
    """Patches pooled with a weight of their own for every class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(1, 8, 4, stride=4), nn.GELU())
        self.weights, self.evidence = nn.Conv2d(8, classes, 1), nn.Conv2d(8, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.attention(images)[0]

    def attention(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) and the weights (B, classes, H, W) by which the patches are pooled."""
        patches = self.patches(images)
        weights = self.weights(patches).flatten(2).softmax(2).unflatten(2, patches.shape[-2:])
        logits = (weights * self.evidence(patches)).sum((2, 3))
        return logits, torch.nn.functional.interpolate(weights, size=images.shape[-2:])


BACKBONE = Backbone("gelu_cnn", _build, size_multiple=4)
ATTENDING = Backbone("attending", lambda classes, image_size, dropout: AttentionPool(classes), size_multiple=4)
