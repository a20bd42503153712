"""A trained model in use: it predicts, is explained, and is evaluated.

Reading order: `classifier` (the model), `explainers` and `relevance_share` (where it looks), `read_ahead` and `predict`
(images to a predictions table), `heatmap_figures`, `evaluate` (predict, evaluate, report).
"""

from cxr_isnet.inference.classifier import Classifier, build_predictor
from cxr_isnet.inference.evaluate import evaluate_classifier, flat_metrics, results_table, site_results
from cxr_isnet.inference.explainers import Explainer, make_explainer
from cxr_isnet.inference.heatmap_figures import HeatmapCase, comparison_figure, heatmap_gallery
from cxr_isnet.inference.predict import (
    Condition,
    conditions,
    files_frame,
    heatmap_cases,
    predict_batches,
    predict_manifest,
)
from cxr_isnet.inference.relevance_share import relevance_in_lung

__all__ = [
    "Classifier",
    "Condition",
    "Explainer",
    "HeatmapCase",
    "build_predictor",
    "comparison_figure",
    "conditions",
    "evaluate_classifier",
    "files_frame",
    "flat_metrics",
    "heatmap_cases",
    "heatmap_gallery",
    "make_explainer",
    "predict_batches",
    "predict_manifest",
    "relevance_in_lung",
    "results_table",
    "site_results",
]
