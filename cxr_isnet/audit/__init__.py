"""The shortcut audit: does a model tell the classes by the lungs, or by what is around them?

Reading order: `audit_set` and `audited_model` (what is looked at), `alterations` (what is done to images),
`statistics` (numbers, intervals, p-values), `probe` and `probes/` (one question each), `running` (verdicts),
`report`.
"""

from cxr_isnet.audit.audit_context import AuditContext
from cxr_isnet.audit.audit_set import LEAST_PATIENTS, AuditSet, load_audit_set
from cxr_isnet.audit.audited_model import AuditedModel, audited_classifier, audited_pyfunc, load_audited
from cxr_isnet.audit.report import AuditReport, write_audit
from cxr_isnet.audit.running import overall, run_probes
from cxr_isnet.audit.statistics import Verdict

__all__ = [
    "LEAST_PATIENTS",
    "AuditContext",
    "AuditReport",
    "AuditSet",
    "AuditedModel",
    "Verdict",
    "audited_classifier",
    "audited_pyfunc",
    "load_audit_set",
    "load_audited",
    "overall",
    "run_probes",
    "write_audit",
]
