"""Duplicates: identical files, and files with the same picture: exported, cropped, turned, mirrored, captioned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity
from cxr_isnet.checks.same_image import SameImage, find_same_images
from cxr_isnet.checks.scan import ManifestScan

_LEAKING = (("label", "labels"), ("patient_id", "patients"), ("split", "splits"), ("table", "tables"))
"""Columns in which two rows of the same image must agree, with their plural."""

_TURNED = 1.5
"""Degrees from which a turn is told."""

_CUT = 0.95
"""Share of the whole below which a part is called a crop."""


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find groups of identical files, and pairs of different files with the same picture."""
    groups: dict[str, list[str]] = {}
    for record in scan.images.values():
        if record.sha256:
            groups.setdefault(record.sha256, []).append(record.path)
    for paths in groups.values():
        if len(paths) > 1:
            yield _finding(scan, paths, "have the same content byte for byte")
    for pair in find_same_images([record.local for record in scan.comparable], scan.thumbnails):
        paths = [scan.comparable[index].path for index in (pair.part, pair.whole)]
        yield _finding(scan, paths, _said(pair), pair.window)


def _said(pair: SameImage) -> str:
    """What joins a pair and what sets it apart."""
    _, _, width, height = pair.window
    changes = ["mirrored"] if pair.mirrored else []
    if pair.degrees >= _TURNED:
        changes.append(f"turned by {pair.degrees:.0f} degrees")
    if width * height < _CUT and pair.degrees < _TURNED:
        changes.append(f"one a crop of {100 * width:.0f}% of the other's width and {100 * height:.0f}% of its height")
    return ", ".join([f"show the same picture (correlation {pair.correlation:.3f})", *changes])


def _finding(
    scan: ManifestScan, paths: Sequence[str], what: str, window: tuple[float, float, float, float] | None = None
) -> Finding:
    places = tuple(place for path in paths for place in scan.places(path))
    message = f"{' and '.join(paths)} {what}{differences_text(scan, paths)}. Keep one of them"
    shown = [Picture(path) for path in paths]
    if window is not None and window[2] * window[3] < _CUT:
        shown[1] = Picture(paths[1], box=window)
    return Finding("duplicates", pair_severity(scan, paths), message, places, "image", pictures=tuple(shown))


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


CHECK = Check("duplicates", "no image is there twice: as a copy, a crop, mirrored, turned or with a caption", find)
