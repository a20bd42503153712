"""What leaves the project: the model that MLflow stores and its gate, its server, exports, DICOM results, archives.

Reading order: `model_package` (what is stored), `pyfunc_model` (its code), `gate_config`, `gate_rules`, `gate`,
`registration` (evidence from a store, aliases), `server` (a model behind HTTP); `archive_scoring` (predictions of any
number of images), `dicom_results`, `listener` (a DICOM node) and its `spool`; `exporters`.
"""

from cxr_isnet.deployment.archive_scoring import ScoringConfig, local_scorer, parts_of, ray_scorer, score_archive
from cxr_isnet.deployment.dicom_results import DicomResults, add_dicom_results
from cxr_isnet.deployment.gate import Check, Decision, decide
from cxr_isnet.deployment.gate_config import GateConfig, GateMetric, read_gate
from cxr_isnet.deployment.gate_rules import Evidence
from cxr_isnet.deployment.listener import Listener, ListenerConfig, Node, check_ae_title
from cxr_isnet.deployment.model_package import load_classifier, log_classifier, logged_weights
from cxr_isnet.deployment.registration import (
    EXTERNAL_TAG,
    MODEL_DIGEST_TAG,
    SEEN_TAG,
    Registration,
    read_evidence,
    register,
    rollback,
    training_of,
)
from cxr_isnet.deployment.server import Limits, make_app
from cxr_isnet.deployment.spool import Spool

__all__ = [
    "EXTERNAL_TAG",
    "MODEL_DIGEST_TAG",
    "SEEN_TAG",
    "Check",
    "Decision",
    "DicomResults",
    "Evidence",
    "GateConfig",
    "GateMetric",
    "Limits",
    "Listener",
    "ListenerConfig",
    "Node",
    "Registration",
    "ScoringConfig",
    "Spool",
    "add_dicom_results",
    "check_ae_title",
    "decide",
    "load_classifier",
    "local_scorer",
    "log_classifier",
    "logged_weights",
    "make_app",
    "parts_of",
    "ray_scorer",
    "read_evidence",
    "read_gate",
    "register",
    "rollback",
    "score_archive",
    "training_of",
]
