"""A U-Net that also classifies: MONAI's, with a classifier on the bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import BasicUNet
from torch import Tensor, nn


class MultitaskUNet(BasicUNet):
    """A U-Net (Ronneberger et al., MICCAI 2015, arXiv 1505.04597) whose bottleneck is averaged and classified.

    The study's classifier, two layers of 4096 units on the bottleneck pooled to 7 x 7, has 222 million weights of its
    own; an average and one layer have 2,050, like the other networks' classifiers.

    Args:
        classes: Number of outputs.
        features: Feature maps of the five levels, from the finest, and of the last layer before the mask.
    """

    def __init__(self, classes: int, features: Sequence[int]) -> None:
        super().__init__(2, 1, 1, features, act=("relu", {"inplace": False}), norm="batch", bias=False)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features[4], classes))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, H, W) to logits (B, classes), without the decoder."""
        logits: Tensor = self.classifier(self._encode(images)[-1])
        return logits

    def logits_and_mask(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W), H and W multiples of 16, to logits (B, classes) and logits of the mask (B, 1, H, W)."""
        *skips, bottleneck = self._encode(images)
        up = bottleneck
        for level, skip in zip((self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1), reversed(skips), strict=True):
            up = level(up, skip)
        return self.classifier(bottleneck), self.final_conv(up)

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the five levels."""
        levels = [self.conv_0(images)]
        for down in (self.down_1, self.down_2, self.down_3, self.down_4):
            levels.append(down(levels[-1]))
        return levels
