"""The shortcut audit: does a model classify by the lungs, or by what is around them?

Reading order: `audit_set` and `audited_model` (images and model), `statistics`
(intervals, p-values), `probe` and `probes/` (one question each), `verdicts` (correction for multiple tests), `report`.
"""

from cxr_isnet.audit.audit_set import MIN_PATIENTS, AuditSet, load_audit_set
from cxr_isnet.audit.audited_model import AuditedModel, audited_classifier, audited_pyfunc, load_audited_model
from cxr_isnet.audit.probe import AuditContext
from cxr_isnet.audit.report import AuditReport, write_audit
from cxr_isnet.audit.verdicts import Verdict, overall_verdict, run_probes

__all__ = [
    "MIN_PATIENTS",
    "AuditContext",
    "AuditReport",
    "AuditSet",
    "AuditedModel",
    "Verdict",
    "audited_classifier",
    "audited_pyfunc",
    "load_audit_set",
    "load_audited_model",
    "overall_verdict",
    "run_probes",
    "write_audit",
]
