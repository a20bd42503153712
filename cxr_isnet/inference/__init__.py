"""A trained model in use: it predicts, is explained, and is evaluated.

Reading order: `classifier` (the model), `explainers`, `relevance_share` and `feature_distance` (where it looks, and how
far an image is from those it knows), `read_ahead` and `scoring` (the loop that predicts), `sources` (images of any
origin to answers), `predict` (manifests to predictions tables), `controls` (classifiers that see no lungs, fitted),
`localisation`, `annotations` and `relevance_checks` (maps against hiding and against what radiologists marked),
`heatmap_overlay` and `heatmap_figures`, `evaluate` (predict, evaluate, report).
"""

from typing import TYPE_CHECKING

from cxr_isnet.inference.classifier import Classifier, build_predictor
from cxr_isnet.inference.explainers import Explainer, make_explainer
from cxr_isnet.inference.feature_distance import FeatureReference, fit_reference
from cxr_isnet.inference.heatmap_overlay import AGAINST, FOR, overlay, shared_scale
from cxr_isnet.inference.relevance_share import relevance_in_lung, relevance_in_other_lungs, relevance_null
from cxr_isnet.inference.scoring import Scores, score
from cxr_isnet.inference.sources import Source, SourceReader, as_sources, content_of, predict_sources
from cxr_isnet.on_demand import names_on_demand

if TYPE_CHECKING:
    from cxr_isnet.inference.annotations import Annotations, read_boxes, read_zone_scores
    from cxr_isnet.inference.controls import FittedControls, PreparedImages
    from cxr_isnet.inference.evaluate import evaluate_classifier, flat_metrics, results_table, site_results
    from cxr_isnet.inference.heatmap_figures import HeatmapCase, comparison_figure, heatmap_gallery
    from cxr_isnet.inference.localisation import (
        box_regions,
        occlusion_gain,
        pointing_game,
        relevance_on_findings,
        zone_agreement,
        zone_relevance,
    )
    from cxr_isnet.inference.predict import (
        Condition,
        conditions,
        files_frame,
        heatmap_cases,
        predict_batches,
        predict_manifest,
    )
    from cxr_isnet.inference.relevance_checks import RelevanceChecks, check_annotations, check_relevance

__all__ = [
    "AGAINST",
    "FOR",
    "Annotations",
    "Classifier",
    "Condition",
    "Explainer",
    "FeatureReference",
    "FittedControls",
    "HeatmapCase",
    "PreparedImages",
    "RelevanceChecks",
    "Scores",
    "Source",
    "SourceReader",
    "as_sources",
    "box_regions",
    "build_predictor",
    "check_annotations",
    "check_relevance",
    "comparison_figure",
    "conditions",
    "content_of",
    "evaluate_classifier",
    "files_frame",
    "fit_reference",
    "flat_metrics",
    "heatmap_cases",
    "heatmap_gallery",
    "make_explainer",
    "occlusion_gain",
    "overlay",
    "pointing_game",
    "predict_batches",
    "predict_manifest",
    "predict_sources",
    "read_boxes",
    "read_zone_scores",
    "relevance_in_lung",
    "relevance_in_other_lungs",
    "relevance_null",
    "relevance_on_findings",
    "results_table",
    "score",
    "shared_scale",
    "site_results",
    "zone_agreement",
    "zone_relevance",
]

__getattr__ = names_on_demand(
    __name__,
    {
        "annotations": ("Annotations", "read_boxes", "read_zone_scores"),
        "controls": ("FittedControls", "PreparedImages"),
        "evaluate": ("evaluate_classifier", "flat_metrics", "results_table", "site_results"),
        "heatmap_figures": ("HeatmapCase", "comparison_figure", "heatmap_gallery"),
        "localisation": (
            "box_regions",
            "occlusion_gain",
            "pointing_game",
            "relevance_on_findings",
            "zone_agreement",
            "zone_relevance",
        ),
        "predict": (
            "Condition",
            "conditions",
            "files_frame",
            "heatmap_cases",
            "predict_batches",
            "predict_manifest",
        ),
        "relevance_checks": ("RelevanceChecks", "check_annotations", "check_relevance"),
    },
)
"""What evaluates: it brings scikit-learn, Matplotlib and pandera, which a model in use does without."""
