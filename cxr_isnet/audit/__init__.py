"""The shortcut audit: does a model tell the classes by the lungs, or by what is around them?

Reading order: `audit_set` and `audited_model` (what is looked at), `alterations` (what is done to images),
`measures` (numbers, intervals, p-values), `examination` and `examinations/` (one question each), `running` (verdicts),
`report`.
"""

from cxr_isnet.audit.audit_set import AuditSet, load_audit_set
from cxr_isnet.audit.audited_model import AuditedModel, audited_classifier, audited_pyfunc
from cxr_isnet.audit.commands import AuditConfig, audit
from cxr_isnet.audit.measures import Verdict
from cxr_isnet.audit.running import examine_all, overall
from cxr_isnet.audit.subject import Subject

__all__ = [
    "AuditConfig",
    "AuditSet",
    "AuditedModel",
    "Subject",
    "Verdict",
    "audit",
    "audited_classifier",
    "audited_pyfunc",
    "examine_all",
    "load_audit_set",
    "overall",
]
