"""Judging predictions: metrics with intervals per site, figures, files. Knows tables, never networks."""

from cxr_isnet.evaluation.bootstrap import Estimate, PatientBootstrap
from cxr_isnet.evaluation.predictions import check_predictions, read_predictions, write_predictions
from cxr_isnet.evaluation.relevance_share import relevance_in_lung
from cxr_isnet.evaluation.report import write_evaluation
from cxr_isnet.evaluation.site import SiteResult, evaluate_site, evaluate_sites

__all__ = [
    "Estimate",
    "PatientBootstrap",
    "SiteResult",
    "check_predictions",
    "evaluate_site",
    "evaluate_sites",
    "read_predictions",
    "relevance_in_lung",
    "write_evaluation",
    "write_predictions",
]
