"""Checks of manifests before any training: tables and pictures in, findings out."""

from cxr_isnet.checks.findings import Contingency, Finding, Picture, Severity
from cxr_isnet.checks.registry import CHECKS, Check
from cxr_isnet.checks.survey import Survey, take_survey

__all__ = [
    "CHECKS",
    "Check",
    "Contingency",
    "Finding",
    "Picture",
    "Severity",
    "Survey",
    "take_survey",
]
