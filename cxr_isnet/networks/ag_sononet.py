"""AG-Sononet: a VGG-like network whose middle features are pooled by attention gates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.networks.grad_cam import resize

_CONVOLUTIONS = (3, 3, 3, 2, 2)
"""Of each stage."""


class GridAttention(nn.Module):
    """Additive attention gate on a grid, with a coarser grid as the gating signal.

    score = psi(ReLU(theta(x) + phi(g) resized to x)), of 1 x 1 convolutions without bias; the coefficients are the
    score less its minimum over the image, over the sum of that ("mean-flow").

    Args:
        channels: Maps of the features x.
        gating_channels: Maps of the gating signal g.
        width: Maps in which both are added.
    """

    def __init__(self, channels: int, gating_channels: int, width: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, width, 1, bias=False)
        self.phi = nn.Conv2d(gating_channels, width, 1, bias=False)
        self.psi = nn.Conv2d(width, 1, 1, bias=False)  # a bias would cancel out with the minimum

    def forward(self, features: Tensor, gating: Tensor) -> Tensor:
        """Features (B, C, h, w) and gating signal (B, G, h', w') to coefficients (B, 1, h, w), 0 or more, of sum 1."""
        score = self.psi(F.relu(self.theta(features) + resize(self.phi(gating), features))).float()
        excess = score - score.amin((2, 3), keepdim=True)
        coefficients: Tensor = excess / excess.sum((2, 3), keepdim=True).clamp_min(1e-8)
        return coefficients


class AGSononet(nn.Module):
    """Attention-gated Sononet (Schlemper et al., Medical Image Analysis 53, 2019, arXiv 1808.08114).

    Five stages of convolutions with batch norm, max pools between them. The outputs of stages 3 and 4 are summed over
    the image by attention gates whose signal is the output of stage 5; the classifier reads both sums and the mean of
    stage 5. (Averaging a classifier for each of the three, as the paper also does, is the same linear function.)

    Args:
        classes: Number of outputs.
        filters: Feature maps of the five stages.
    """

    def __init__(self, classes: int, filters: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _stage(before, after, count)
            for before, after, count in zip((1, *filters[:-1]), filters, _CONVOLUTIONS, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.gates = nn.ModuleList(GridAttention(filters[stage], filters[4], filters[4]) for stage in (2, 3))
        self.classifier = nn.Linear(filters[2] + filters[3] + filters[4], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, H, W) to logits (B, classes)."""
        return self._classify(images)[0]

    def attention(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the coefficients of both gates, each in units of their own mean, bilinear at the size of the image.

        They do not depend on the class, so that every class has the same map; and they do not show what the classifier
        reads from stage 5 beside them.

        Args:
            images: (B, 1, H, W).

        Returns:
            Logits (B, classes), and maps (B, classes, H, W) of 0 or more.
        """
        logits, coefficients = self._classify(images)
        maps = [resize(gate * gate.shape[-2] * gate.shape[-1], images) for gate in coefficients]
        return logits, torch.stack(maps).mean(0).expand(-1, logits.shape[1], -1, -1)

    def _classify(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the coefficients of the gates at stages 3 and 4."""
        outputs = [self.stages[0](images)]
        for stage in self.stages[1:]:
            outputs.append(stage(self.pool(outputs[-1])))
        gated, gating = outputs[2:4], outputs[4]
        coefficients = [gate(features, gating) for gate, features in zip(self.gates, gated, strict=True)]
        sums = [(c * features).sum((2, 3)) for c, features in zip(coefficients, gated, strict=True)]
        return self.classifier(torch.cat((*sums, gating.mean((2, 3))), 1)), coefficients


def _stage(before: int, after: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convolutions):
        layers += [nn.Conv2d(after if index else before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)
