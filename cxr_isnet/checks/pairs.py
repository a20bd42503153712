"""How bad it is that two rows show the same picture, and what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cxr_isnet.checks.findings import Severity
from cxr_isnet.checks.scan import ManifestScan

_TELLING = (("label", "labels"), ("patient_id", "patients"), ("split", "splits"), ("table", "tables"))


def pair_severity(scan: ManifestScan, images: Sequence[str]) -> Severity:
    """An error when the same picture has two labels, patients, splits or tables: it would be trained and tested on."""
    rows = _rows(scan, images)
    torn = any(rows[column].nunique() > 1 for column, _ in _TELLING)
    return Severity.ERROR if torn else Severity.WARNING


def differences_text(scan: ManifestScan, images: Sequence[str]) -> str:
    """ ", under the labels normal and ill" and the like; "" when the rows agree in all that matters."""
    rows = _rows(scan, images)
    named = []
    for column, many in _TELLING:
        values = [value or "(empty)" for value in rows[column].unique()]
        if len(values) > 1:
            named.append(f"{many} {' and '.join(values)}")
    return f", under the {', '.join(named)}" if named else ""


def _rows(scan: ManifestScan, images: Sequence[str]) -> pd.DataFrame:
    rows = pd.concat([scan.rows(image) for image in images])
    return rows.assign(table=[place.table for place in rows.index])
