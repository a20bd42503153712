"""Lung masks for X-rays that have none: a segmenter trained on given masks, judged, and doubted where it should be."""

from cxr_isnet.segmentation.finding import FoundLungs, find_lungs
from cxr_isnet.segmentation.quality import MaskQuality, QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter

__all__ = ["FoundLungs", "MaskQuality", "QualityLimits", "Segmenter", "find_lungs"]
