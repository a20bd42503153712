"""What leaves the project: the model that MLflow stores, and the gate before it becomes the champion.

Reading order: `model_package` (what is stored), `pyfunc_model` (its code), `gate` (rules and their evidence),
`registration` (evidence from a store, aliases).
"""

from cxr_isnet.deployment.gate import Check, Decision, Evidence, GateConfig, GateMetric, decide, read_gate
from cxr_isnet.deployment.model_package import log_classifier
from cxr_isnet.deployment.registration import (
    EXTERNAL_TAG,
    MODEL_DIGEST_TAG,
    SEEN_TAG,
    Registration,
    read_evidence,
    register,
    rollback,
)

__all__ = [
    "EXTERNAL_TAG",
    "MODEL_DIGEST_TAG",
    "SEEN_TAG",
    "Check",
    "Decision",
    "Evidence",
    "GateConfig",
    "GateMetric",
    "Registration",
    "decide",
    "log_classifier",
    "read_evidence",
    "read_gate",
    "register",
    "rollback",
]
