"""What leaves the project: the model that MLflow stores, the gate before it becomes the champion, its server.

Reading order: `model_package` (what is stored), `pyfunc_model` (its code), `gate` (rules and their evidence),
`registration` (evidence from a store, aliases), `server` (a model behind HTTP).
"""

from cxr_isnet.deployment.gate import Check, Decision, Evidence, GateConfig, GateMetric, decide, read_gate
from cxr_isnet.deployment.model_package import load_classifier, log_classifier
from cxr_isnet.deployment.registration import (
    EXTERNAL_TAG,
    MODEL_DIGEST_TAG,
    SEEN_TAG,
    Registration,
    read_evidence,
    register,
    rollback,
)
from cxr_isnet.deployment.server import Limits, make_app

__all__ = [
    "EXTERNAL_TAG",
    "MODEL_DIGEST_TAG",
    "SEEN_TAG",
    "Check",
    "Decision",
    "Evidence",
    "GateConfig",
    "GateMetric",
    "Limits",
    "Registration",
    "decide",
    "load_classifier",
    "log_classifier",
    "make_app",
    "read_evidence",
    "read_gate",
    "register",
    "rollback",
]
