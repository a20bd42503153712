"""Heatmap losses of ISNet: background and foreground loss of relevance maps. Imports torch only."""

from cxr_isnet.losses.background import background_loss
from cxr_isnet.losses.foreground import BoundEstimator, ForegroundForm, RelevanceBounds, foreground_loss
from cxr_isnet.losses.heatmap import HeatmapLossConfig, HeatmapTerms, aggregate_layers, heatmap_loss, usable_masks
from cxr_isnet.losses.pooling import fit_mask, gwrp

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
    "usable_masks",
]
