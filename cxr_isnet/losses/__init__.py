"""Heatmap losses of ISNet. Knows tensors only."""

from cxr_isnet.losses.background import background_loss
from cxr_isnet.losses.cuts import CutTuner
from cxr_isnet.losses.foreground import Cuts, ForegroundForm, foreground_loss
from cxr_isnet.losses.gwrp import gwrp
from cxr_isnet.losses.heatmap import HeatmapLossConfig, HeatmapTerms, aggregate_layers, heatmap_loss
from cxr_isnet.losses.mask import fit_mask

__all__ = [
    "CutTuner",
    "Cuts",
    "ForegroundForm",
    "HeatmapLossConfig",
    "HeatmapTerms",
    "aggregate_layers",
    "background_loss",
    "fit_mask",
    "foreground_loss",
    "gwrp",
    "heatmap_loss",
]
