"""Images that are no frontal chest X-rays: by the table's column, and by their appearance."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity, from_problem
from cxr_isnet.checks.frontal import MAX_OUTLIER_SCORE, frontal_outlier_score
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.imaging import FRONTAL_ABOVE, downsample, frontal_score
from cxr_isnet.manifests import ColumnProblem

_FRONTAL = re.compile(r"\b(AP|PA|FRONTAL|ANTEROPOSTERIOR|POSTEROANTERIOR|ANTERO-POSTERIOR|POSTERO-ANTERIOR)\b", re.I)


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find rows whose view is not frontal, and images that look unlike a chest or unlike the others."""
    frame = scan.frame
    if "view" in frame.columns:
        other = frame["view"].map(lambda view: bool(view) and not _FRONTAL.search(view))
        if other.any():
            yield _by_table(scan, frame.loc[other.astype(bool), "view"])
    yield from _suspects(scan)


def _suspects(scan: ManifestScan) -> Iterator[Finding]:
    site_of = dict(zip(reversed(scan.frame["image"].array), reversed(scan.frame["site"].array), strict=True))
    sites = [site_of[record.path] for record in scan.comparable]
    frontal_scores = [frontal_score(downsample(thumbnail.astype(np.float32))) for thumbnail in scan.thumbnails]
    outlier_scores = frontal_outlier_score(scan.thumbnails, sites)
    for record, frontal, outlier in zip(scan.comparable, frontal_scores, outlier_scores, strict=True):
        if frontal >= FRONTAL_ABOVE and outlier <= MAX_OUTLIER_SCORE:
            continue
        why = []
        if frontal < FRONTAL_ABOVE:
            why.append(f"score of an upright frontal chest {frontal:.1f}, usual above 3")
        if outlier > MAX_OUTLIER_SCORE:
            why.append(f"difference to the other images {outlier:.2f}, usual below {MAX_OUTLIER_SCORE}")
        message = (
            f"{record.path}: suspect: not a frontal chest, or turned, or grey inverted ({'; '.join(why)}). Look at it: "
            "a diseased chest is flagged now and then"
        )
        places = scan.places(record.path)
        yield Finding("views", Severity.WARNING, message, places, "image", pictures=(Picture(record.path),))


def _by_table(scan: ManifestScan, views: pd.Series) -> Finding:
    problem = ColumnProblem(
        " + ".join(scan.tables),
        "view",
        views,
        "names a view that is not frontal",
        "drop the rows, or correct the view: lungs are not distinguished from background in other views",
    )
    shown = [Picture(image) for image in scan.frame.loc[views.index, "image"] if image]
    return from_problem(problem, "views", Severity.WARNING, shown)


CHECK = Check("views", "images are frontal chest X-rays: by the column 'view', and suspects by their appearance", find)
