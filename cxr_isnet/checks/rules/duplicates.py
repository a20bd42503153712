"""Duplicates: identical files, and different files with the same content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity
from cxr_isnet.checks.scan import ManifestScan

_LEAKING = (("label", "labels"), ("patient_id", "patients"), ("split", "splits"), ("table", "tables"))
"""Columns in which two rows of the same image must agree, with their plural."""


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find groups of identical files, and pairs of different files with the same content."""
    groups: dict[str, list[str]] = {}
    for record in scan.images.values():
        if record.sha256:
            groups.setdefault(record.sha256, []).append(record.path)
    for paths in groups.values():
        if len(paths) > 1:
            yield _finding(scan, paths, "have the same content byte for byte")
    for pair in scan.near_duplicates:
        paths = [scan.comparable[pair.first].path, scan.comparable[pair.second].path]
        yield _finding(scan, paths, f"show the same picture (correlation {pair.correlation:.3f})")


def _finding(scan: ManifestScan, paths: Sequence[str], what: str) -> Finding:
    places = tuple(place for path in paths for place in scan.places(path))
    message = f"{' and '.join(paths)} {what}{differences_text(scan, paths)}. Keep one of them"
    shown = tuple(Picture(path) for path in paths)
    return Finding("duplicates", pair_severity(scan, paths), message, places, "image", pictures=shown)


def pair_severity(scan: ManifestScan, images: Sequence[str]) -> Severity:
    """Severity of files that show the same image.

    An error when their rows differ in label, patient, split or table: a model would be trained and tested on it.
    """
    rows = _rows(scan, images)
    differs = any(rows[column].nunique() > 1 for column, _ in _LEAKING)
    return Severity.ERROR if differs else Severity.WARNING


def differences_text(scan: ManifestScan, images: Sequence[str]) -> str:
    """Differences of their rows, as ", under the labels normal and ill"; "" when they agree in all that matters."""
    rows = _rows(scan, images)
    named = []
    for column, plural in _LEAKING:
        values = [value or "(empty)" for value in rows[column].unique()]
        if len(values) > 1:
            named.append(f"{plural} {' and '.join(values)}")
    return f", under the {', '.join(named)}" if named else ""


def _rows(scan: ManifestScan, images: Sequence[str]) -> pd.DataFrame:
    rows = pd.concat([scan.rows(image) for image in images])
    return rows.assign(table=[place.table for place in rows.index])


CHECK = Check("duplicates", "no image is there twice: by the bytes of the file, then by its content", find)
