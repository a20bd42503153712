"""Classes and hospitals with several spellings, each of which would count as one of its own."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Severity, from_problem
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.manifests import spelling_problems


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find names that differ in capitals and blanks only: of classes an error, of hospitals a warning."""
    for column, severity in (("label", Severity.ERROR), ("site", Severity.WARNING)):
        for problem in spelling_problems(scan.frame, " + ".join(scan.tables), column):
            yield from_problem(problem, "labels", severity)


CHECK = Check("labels", "every class and every hospital has one spelling", find)
