"""Lung masks for X-rays that have none: training and evaluation of a segmenter, prediction with quality flags."""

from cxr_isnet.segmentation.completion import complete_masks, holds_other_files
from cxr_isnet.segmentation.mask_evaluation import (
    evaluate_overlaps,
    evaluate_segmenter,
    flat_overlaps,
    format_overlaps,
    write_overlaps,
)
from cxr_isnet.segmentation.mask_prediction import PredictedMask, find_lungs, predict_masks
from cxr_isnet.segmentation.pairs import patient_folds, read_pairs, read_splits
from cxr_isnet.segmentation.quality import MaskQuality, QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter
from cxr_isnet.segmentation.third_party import find_third_party
from cxr_isnet.segmentation.training import SegmentTrainConfig, train_segmenter

__all__ = [
    "MaskQuality",
    "PredictedMask",
    "QualityLimits",
    "SegmentTrainConfig",
    "Segmenter",
    "complete_masks",
    "evaluate_overlaps",
    "evaluate_segmenter",
    "find_lungs",
    "find_third_party",
    "flat_overlaps",
    "format_overlaps",
    "holds_other_files",
    "patient_folds",
    "predict_masks",
    "read_pairs",
    "read_splits",
    "train_segmenter",
    "write_overlaps",
]
