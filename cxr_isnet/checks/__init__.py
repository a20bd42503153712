"""Checks of manifests before any training: tables and pictures in, findings out."""

from cxr_isnet.checks.findings import Contingency, Finding, Picture, Severity
from cxr_isnet.checks.registry import Check, checks, register
from cxr_isnet.checks.survey import Survey, take_survey

__all__ = [
    "Check",
    "Contingency",
    "Finding",
    "Picture",
    "Severity",
    "Survey",
    "checks",
    "register",
    "take_survey",
]
