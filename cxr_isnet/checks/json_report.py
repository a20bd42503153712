"""JSON report: all findings, for other programs.

Fields: `status` (0 clean, 1 findings, 2 unusable), `tables` (names), `rows`, `images`, `masks` (numbers), `counts`
(severity to number), `findings`. A finding has `check`, `severity` (unusable, error, warning, info), `message`, `rows`
(list of `table` and `row`, counted from 1 below the header), `column`, `value`, `images` (paths), `contingency`: null,
or `property`, `values`, `labels`, `counts` (a list per value, a number of patients per label), `cramers_v` and
`p_value`; and `controls`: a list of `control`, `moved_to` (a table; "" for cross-validation), `n_images` and `auc` (an
interval).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cxr_isnet.checks.findings import Finding, Severity, exit_status
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.files import atomic_write


def write_json_report(path: Path, scan: ManifestScan, findings: Sequence[Finding]) -> None:
    """Write all findings as JSON; whole or not at all.

    Args:
        path: of the file.
        scan: that was checked.
        findings: of all checks.
    """
    count = Counter(finding.severity for finding in findings)
    content = {
        "status": exit_status(findings),
        "tables": list(scan.tables),
        "rows": len(scan.frame),
        "images": len(scan.images),
        "masks": len(scan.masks),
        "counts": {severity.value: count[severity] for severity in Severity},
        "findings": [_fields(finding) for finding in findings],
    }
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _fields(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "message": finding.message,
        "rows": [asdict(place) for place in finding.places],
        "column": finding.column,
        "value": finding.value,
        "images": [picture.image for picture in finding.pictures],
        "contingency": None if finding.contingency is None else asdict(finding.contingency),
        "controls": [
            {
                "control": score.control,
                "moved_to": score.moved_to,
                "n_images": score.n_images,
                "auc": score.auc.to_dict(),
            }
            for score in finding.controls
        ],
    }
