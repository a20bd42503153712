"""What a training step minimises, one file per family of methods.

A method is an objective, its default network, how it predicts and how it is explained. A new one is a file here and an
entry of `METHODS`; one of your own is a file anywhere that a config names by its import path.
"""

from cxr_isnet.objectives.balance import BalanceConfig, Groups, TrainingSet
from cxr_isnet.objectives.cross_entropy import CrossEntropy
from cxr_isnet.objectives.linear_probe import LinearProbe
from cxr_isnet.objectives.masked_image import LungClassifier, SegmenterOptions
from cxr_isnet.objectives.method import Explain, Explanation, Method
from cxr_isnet.objectives.methods import (
    METHODS,
    MethodOptions,
    find_method,
    options_of,
    refuse_foreign_code,
    resolved_options,
)
from cxr_isnet.objectives.objective import Batch, Objective, check_batch

__all__ = [
    "METHODS",
    "BalanceConfig",
    "Batch",
    "CrossEntropy",
    "Explain",
    "Explanation",
    "Groups",
    "LinearProbe",
    "LungClassifier",
    "Method",
    "MethodOptions",
    "Objective",
    "SegmenterOptions",
    "TrainingSet",
    "check_batch",
    "find_method",
    "options_of",
    "refuse_foreign_code",
    "resolved_options",
]
