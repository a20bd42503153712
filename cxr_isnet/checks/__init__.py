"""Checks of manifests before any training: tables and images in, findings out."""

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Contingency, ControlScore, Finding, Picture, Severity, exit_status
from cxr_isnet.checks.html_report import write_html_report
from cxr_isnet.checks.json_report import write_json_report
from cxr_isnet.checks.rules import CHECKS
from cxr_isnet.checks.scan import SCHEMA_CHECK, ManifestScan, scan_manifests
from cxr_isnet.checks.text_report import text_report

__all__ = [
    "CHECKS",
    "SCHEMA_CHECK",
    "Check",
    "Contingency",
    "ControlScore",
    "Finding",
    "ManifestScan",
    "Picture",
    "Severity",
    "exit_status",
    "scan_manifests",
    "text_report",
    "write_html_report",
    "write_json_report",
]
