"""Lung masks for X-rays that have none: training and evaluation of a segmenter, prediction with quality flags."""

from cxr_isnet.segmentation.mask_prediction import PredictedMask, predict_masks
from cxr_isnet.segmentation.quality import MaskQuality, QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter

__all__ = ["MaskQuality", "PredictedMask", "QualityLimits", "Segmenter", "predict_masks"]
