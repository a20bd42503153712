"""A trained model in use: it predicts, is explained, and is evaluated.

Reading order: `classifier` (the model), `explainers` and `relevance_share` (where it looks), `predict` (images to a
predictions table), `heatmap_figures`, `evaluate` (predict, evaluate, report).
"""

from cxr_isnet.inference.classifier import Classifier
from cxr_isnet.inference.evaluate import evaluate_classifier
from cxr_isnet.inference.explainers import Explainer, make_explainer
from cxr_isnet.inference.predict import Condition, conditions, heatmap_cases, predict_manifest
from cxr_isnet.inference.relevance_share import relevance_in_lung

__all__ = [
    "Classifier",
    "Condition",
    "Explainer",
    "conditions",
    "evaluate_classifier",
    "heatmap_cases",
    "make_explainer",
    "predict_manifest",
    "relevance_in_lung",
]
