"""Evaluation of predictions tables: metrics with intervals per site, comparison of models, figures, report.

Knows tables, never networks. Reading order: `predictions_table` (what goes in), `metrics` and `confusion` (numbers),
`bootstrap`, `delong`, `posterior` (their intervals), `site` (one site), `model_evaluation` (one model), `study`
(several), `control_classifiers` and `control_comparison` (models beside controls that see no lungs), `report` (what is
written).
"""

from cxr_isnet.evaluation.bootstrap import (
    BCA_BOOTSTRAP,
    PatientBootstrap,
    Replicates,
    paired_difference,
    patient_numbers,
)
from cxr_isnet.evaluation.calibration import calibration, fit_temperature, with_temperature
from cxr_isnet.evaluation.comparison_report import COMPARISON_FILES, comparison_text, write_comparison
from cxr_isnet.evaluation.confusion import FloatArray, IntArray
from cxr_isnet.evaluation.control_classifiers import (
    CONTROLS,
    MIN_PATIENTS,
    NO_MASK,
    Control,
    Predict,
    cross_validate,
    fit_control,
    image_features,
    mask_features,
)
from cxr_isnet.evaluation.figures import loss_curves_figure, plain_text
from cxr_isnet.evaluation.groups import age_bands
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.method_comparison import (
    ComparedMethod,
    MethodComparison,
    TrainingTables,
    compare_methods,
    flat_numbers,
)
from cxr_isnet.evaluation.metrics import EvaluatedImages, Metric, WeightedMean, metric_families
from cxr_isnet.evaluation.model_comparison import holm
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.page import (
    figure_uri,
    image_uri,
    interval_text,
    markdown_text,
    number_with_interval,
    outlined,
    p_value,
    printable,
    text_columns,
    write_page,
)
from cxr_isnet.evaluation.predictions_table import (
    ERROR_COLUMN,
    PROBABILITY_PREFIX,
    RELEVANCE_COLUMN,
    RELEVANCE_NULL_COLUMN,
    RELEVANCE_REASON_COLUMN,
    SUM_TOLERANCE,
    check_predictions,
    label_indices,
    predicted_classes,
    probabilities,
    probability_columns,
    read_predictions,
    read_tables,
    relevance_excess,
    write_predictions,
)
from cxr_isnet.evaluation.ranking import HandTillAUC, WithinSiteAUC, hand_till_auc
from cxr_isnet.evaluation.report import FILES, study_metrics, study_text, write_report
from cxr_isnet.evaluation.site import POOLED, SiteResult, evaluate_site, evaluate_sites
from cxr_isnet.evaluation.study import Study, check_prevalence, evaluate_folds, evaluate_table, evaluate_tables
from cxr_isnet.evaluation.thresholds import DecisionRule, ShippedDecision, frozen_rule

__all__ = [
    "BCA_BOOTSTRAP",
    "COMPARISON_FILES",
    "CONTROLS",
    "ERROR_COLUMN",
    "FILES",
    "MIN_PATIENTS",
    "NO_MASK",
    "POOLED",
    "PROBABILITY_PREFIX",
    "RELEVANCE_COLUMN",
    "RELEVANCE_NULL_COLUMN",
    "RELEVANCE_REASON_COLUMN",
    "SUM_TOLERANCE",
    "ComparedMethod",
    "Control",
    "DecisionRule",
    "EvaluatedImages",
    "FloatArray",
    "HandTillAUC",
    "IntArray",
    "Interval",
    "IntervalMethod",
    "MethodComparison",
    "Metric",
    "PatientBootstrap",
    "Predict",
    "Replicates",
    "Settings",
    "ShippedDecision",
    "SiteResult",
    "Study",
    "TrainingTables",
    "WeightedMean",
    "WithinSiteAUC",
    "age_bands",
    "calibration",
    "check_predictions",
    "check_prevalence",
    "compare_methods",
    "comparison_text",
    "cross_validate",
    "evaluate_folds",
    "evaluate_site",
    "evaluate_sites",
    "evaluate_table",
    "evaluate_tables",
    "figure_uri",
    "fit_control",
    "fit_temperature",
    "flat_numbers",
    "frozen_rule",
    "hand_till_auc",
    "holm",
    "image_features",
    "image_uri",
    "interval_text",
    "label_indices",
    "loss_curves_figure",
    "markdown_text",
    "mask_features",
    "metric_families",
    "number_with_interval",
    "outlined",
    "p_value",
    "paired_difference",
    "patient_numbers",
    "plain_text",
    "predicted_classes",
    "printable",
    "probabilities",
    "probability_columns",
    "read_predictions",
    "read_tables",
    "relevance_excess",
    "study_metrics",
    "study_text",
    "text_columns",
    "with_temperature",
    "write_comparison",
    "write_page",
    "write_predictions",
    "write_report",
]
