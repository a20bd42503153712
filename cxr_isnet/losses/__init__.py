"""Heatmap losses of ISNet. Knows tensors only."""

from cxr_isnet.losses.background import background_loss
from cxr_isnet.losses.bounds import BoundEstimator
from cxr_isnet.losses.foreground import ForegroundForm, RelevanceBounds, foreground_loss
from cxr_isnet.losses.gwrp import gwrp
from cxr_isnet.losses.heatmap import HeatmapLossConfig, HeatmapTerms, aggregate_layers, heatmap_loss
from cxr_isnet.losses.mask import fit_mask

__all__ = [
    "BoundEstimator",
    "ForegroundForm",
    "HeatmapLossConfig",
    "HeatmapTerms",
    "RelevanceBounds",
    "aggregate_layers",
    "background_loss",
    "fit_mask",
    "foreground_loss",
    "gwrp",
    "heatmap_loss",
]
