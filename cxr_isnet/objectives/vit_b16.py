"""The vision transformer: cross-entropy, explained by its attention."""

from __future__ import annotations

from dataclasses import replace

from cxr_isnet.networks import VisionTransformer
from cxr_isnet.objectives.cross_entropy import CROSS_ENTROPY
from cxr_isnet.objectives.method import Explanation

VIT_B16 = replace(
    CROSS_ENTROPY,
    name="vit_b16",
    about="a vision transformer, ViT-B/16",
    network="vit_b16",
    network_class=VisionTransformer,
    explanation=Explanation.ATTENTION,
)
"""Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929). Its attention is one map, the same for every class."""
