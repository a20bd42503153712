"""AG-Sononet: cross-entropy of a network with attention gates, which explain it."""

from __future__ import annotations

from dataclasses import replace

from cxr_isnet.networks import AGSononet
from cxr_isnet.objectives.cross_entropy import CROSS_ENTROPY
from cxr_isnet.objectives.method import Explanation

AG_SONONET = replace(
    CROSS_ENTROPY,
    name="ag_sononet",
    about="a VGG-like network with attention gates",
    network="ag_sononet",
    network_class=AGSononet,
    explanation=Explanation.ATTENTION,
)
"""Schlemper et al., Medical Image Analysis 53 (2019), arXiv 1808.08114. Its attention is the same for every class."""
