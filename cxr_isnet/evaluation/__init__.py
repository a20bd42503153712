"""Evaluation of predictions tables: metrics with intervals per site, comparison of models, figures, report.

Knows tables, never networks. Reading order: `predictions_table` (what goes in), `metrics` and `confusion` (numbers),
`bootstrap`, `delong`, `posterior` (their intervals), `site` (one site), `model_evaluation` (one model), `study`
(several), `report` (what is written).
"""

from cxr_isnet.evaluation.bootstrap import PatientBootstrap
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.predictions_table import (
    check_predictions,
    read_predictions,
    read_tables,
    write_predictions,
)
from cxr_isnet.evaluation.report import write_report
from cxr_isnet.evaluation.site import SiteResult, evaluate_site, evaluate_sites
from cxr_isnet.evaluation.study import Study, evaluate_tables

__all__ = [
    "Interval",
    "IntervalMethod",
    "PatientBootstrap",
    "Settings",
    "SiteResult",
    "Study",
    "check_predictions",
    "evaluate_site",
    "evaluate_sites",
    "evaluate_tables",
    "read_predictions",
    "read_tables",
    "write_predictions",
    "write_report",
]
