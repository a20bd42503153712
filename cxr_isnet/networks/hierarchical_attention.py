"""The network of hierarchical attention mining: a dilated ResNet, foreground attention, a map for every class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets import ResNet
from torch import Tensor, nn

from cxr_isnet.networks.grad_cam import resize

_SHARPNESS = 6.0
"""r of the log-sum-exp pool: 0 is the mean, infinity the maximum."""


class HierarchicalAttention(nn.Module):
    """Network of hierarchical attention mining (Ouyang et al., IEEE TMI, 2021).

    A ResNet whose last two stages are dilated instead of strided, so that features keep an eighth of the image's rows
    and columns; foreground attention, whose output is joined to them; a log-sum-exp pool; and one linear layer without
    bias. The published network has a linear layer for the diseases and one for "any anomaly", whose negative logit is
    that of the normal class: here they are the rows of one layer.

    Args:
        classes: Number of outputs.
        block: MONAI's residual block, "basic" or "bottleneck".
        layers: Blocks of each of the four stages.
        planes: Feature maps of each stage (a bottleneck's output has four times as many).
        width: Feature maps of the attention and of what is classified.
    """

    def __init__(self, classes: int, block: str, layers: Sequence[int], planes: Sequence[int], width: int) -> None:
        super().__init__()
        self.resnet = ResNet(
            block,
            list(layers),
            list(planes),
            spatial_dims=2,
            n_input_channels=1,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        _dilate(self.resnet.layer3, 2)
        _dilate(self.resnet.layer4, 4)
        channels = self.resnet.in_planes
        self.foreground = ForegroundAttention(channels, width)
        self.fuse = _convolution(channels + width, width)
        self.dropout = nn.Dropout2d(0.1)
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, H, W) to logits (B, classes)."""
        return self._classify(images)[0]

    def logits_and_evidence(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes), and the last layer at every place (B, classes, H / 8, W / 8) with detached weights."""
        logits, features = self._classify(images)
        return logits, F.conv2d(features, self.head.weight.detach()[:, :, None, None])

    def attention(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes), and class activation maps (B, classes, H, W), 0 or more, bilinear."""
        logits, evidence = self.logits_and_evidence(images)
        return logits, resize(evidence.relu(), images)

    def _classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stem = self.resnet.maxpool(self.resnet.act(self.resnet.bn1(self.resnet.conv1(images))))
        features = self.resnet.layer4(self.resnet.layer3(self.resnet.layer2(self.resnet.layer1(stem))))
        fused = self.dropout(self.fuse(torch.cat((features, self.foreground(features)), 1)))
        return self.head(log_sum_exp_pool(fused)), fused


class ForegroundAttention(nn.Module):
    """Channel, then position attention; each adds to its input with a scale that is learned from 0.

    Args:
        channels: Feature maps that come in.
        width: Feature maps that go out, a multiple of 8.

    Source:
        The attention blocks are those of Fu et al., Dual attention network, CVPR 2019 (arXiv 1809.02983), section 3.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = _convolution(channels, width)
        self.channel_scale = nn.Parameter(torch.zeros(()))
        self.query = nn.Conv2d(width, width // 8, 1)
        self.key = nn.Conv2d(width, width // 8, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.position_scale = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, width, h, w)."""
        x = self.reduce(features)
        maps = x.flatten(2)
        likeness = maps @ maps.transpose(1, 2)
        weights = (likeness.amax(2, keepdim=True) - likeness).softmax(2)  # to what is unlike, as in the source
        x = x + self.channel_scale * (weights @ maps).view_as(x)
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = (query.transpose(1, 2) @ key).softmax(2)
        attended: Tensor = x + self.position_scale * (value @ weights.transpose(1, 2)).view_as(x)
        return attended


def log_sum_exp_pool(features: Tensor) -> Tensor:
    """Between mean and maximum over the image: ln(mean exp(r x)) / r (Pinheiro, Collobert, CVPR 2015).

    Args:
        features: (B, C, h, w).

    Returns:
        (B, C) float32.
    """
    places = features.float().flatten(2)
    return (torch.logsumexp(_SHARPNESS * places, 2) - math.log(places.shape[2])) / _SHARPNESS


def _convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def _dilate(stage: nn.Module, dilation: int) -> None:
    """Takes the stride out of a stage and spreads its 3 x 3 convolutions instead."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
