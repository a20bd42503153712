"""Checks of manifests before any training: tables and images in, findings out."""

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Contingency, Finding, Picture, Severity
from cxr_isnet.checks.rules import CHECKS
from cxr_isnet.checks.scan import ManifestScan, scan_manifests

__all__ = [
    "CHECKS",
    "Check",
    "Contingency",
    "Finding",
    "ManifestScan",
    "Picture",
    "Severity",
    "scan_manifests",
]
