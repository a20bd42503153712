"""The network of the lung segmenter: a small 2D U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monai.networks.nets import UNet
from torch import nn

from cxr_isnet.config import spell_by_value
from cxr_isnet.errors import InputError

LUNG_PROBABILITY = 0.5
"""Probability from which on a pixel is lung."""


class Heart(StrEnum):
    """Where annotators differ most: what their lung mask does with the region of the heart."""

    LEFT_OUT = "left_out"
    INCLUDED = "included"


spell_by_value(Heart)


@dataclass(frozen=True)
class SegmenterConfig:
    """A U-Net (Ronneberger et al. 2015) as MONAI builds it: strided convolutions, residual units, batch norm.

    Attributes:
        channels: Feature maps of each level, from the finest; every level halves rows and columns.
        dropout: Probability of dropping a feature map; 0 for none.
        hearts: One output for each kind of lung mask that the network was trained on; none for one kind, unstated.
    """

    channels: tuple[int, ...] = (16, 32, 64, 128, 128)
    dropout: float = 0.0
    hearts: tuple[Heart, ...] = ()

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise InputError(f"network.channels is {list(self.channels)}; give two or more levels of at least 1 map")
        if len(set(self.hearts)) < len(self.hearts):
            raise InputError(f"network.hearts is {[str(heart) for heart in self.hearts]}; name each kind of mask once")
        if not 0 <= self.dropout < 1:
            raise InputError(f"network.dropout is {self.dropout}; it must be from 0 to below 1")

    @property
    def stride(self) -> int:
        """Rows and columns of an image must be a multiple of it."""
        return int(2 ** (len(self.channels) - 1))


def build_segmenter(config: SegmenterConfig) -> nn.Module:
    """Builds the network, its weights drawn by torch's global generator.

    Returns:
        Images (B, 1, H, W) float32 in [0, 1] to logits (B, outputs, H, W), one output or one for each of
        `config.hearts`; H and W are multiples of `config.stride`.
    """
    return UNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=max(1, len(config.hearts)),
        channels=config.channels,
        strides=(2,) * (len(config.channels) - 1),
        num_res_units=1,
        norm="batch",
        dropout=config.dropout,
    )
