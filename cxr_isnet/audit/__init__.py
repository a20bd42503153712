"""The shortcut audit: does a model classify by the lungs, or by what is around them?

Reading order: `audit_set` and `training_images` (images), `audited_model` and `third_party` (models), `statistics`
(intervals, p-values), `probe` and `probes/` (one question each), `verdicts` (correction for multiple tests, what was
examined), `report`.
"""

from cxr_isnet.audit.audit_set import MIN_PATIENTS, AuditSet, load_audit_set
from cxr_isnet.audit.audited_model import AuditedModel, audited_classifier, load_audited_model
from cxr_isnet.audit.probe import AuditContext
from cxr_isnet.audit.report import AuditReport, write_audit
from cxr_isnet.audit.third_party import AdapterConfig, ThirdPartyModel, adapt
from cxr_isnet.audit.training_images import TrainingImages, load_training_images
from cxr_isnet.audit.verdicts import Verdict, overall_verdict, run_probes

__all__ = [
    "MIN_PATIENTS",
    "AdapterConfig",
    "AuditContext",
    "AuditReport",
    "AuditSet",
    "AuditedModel",
    "ThirdPartyModel",
    "TrainingImages",
    "Verdict",
    "adapt",
    "audited_classifier",
    "load_audit_set",
    "load_audited_model",
    "load_training_images",
    "overall_verdict",
    "run_probes",
    "write_audit",
]
