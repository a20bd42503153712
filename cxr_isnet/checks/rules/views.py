"""Images that are no frontal chest X-rays: by what the table says, and by how they look."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity, from_problem
from cxr_isnet.checks.frontal import LEAST_CHEST, MOST_ODD, frontal_outlier_score, resemblance
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.manifests import ColumnProblem

_FRONTAL = re.compile(r"\b(AP|PA|FRONTAL|ANTEROPOSTERIOR|POSTEROANTERIOR|ANTERO-POSTERIOR|POSTERO-ANTERIOR)\b", re.I)


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Rows whose view is not frontal; pictures that look like no chest, or unlike all others."""
    frame = scan.frame
    if "view" in frame.columns:
        other = frame["view"].map(lambda view: bool(view) and not _FRONTAL.search(view))
        if other.any():
            yield _by_table(scan, frame.loc[other.astype(bool), "view"])
    yield from _suspects(scan)


def _suspects(scan: ManifestScan) -> Iterator[Finding]:
    sites = [scan.rows(record.path)["site"].iloc[0] for record in scan.pictures]
    marks = zip(scan.pictures, resemblance(scan.thumbnails), frontal_outlier_score(scan.thumbnails, sites), strict=True)
    for record, chest, odd in marks:
        if chest >= LEAST_CHEST and odd <= MOST_ODD:
            continue
        why = []
        if chest < LEAST_CHEST:
            why.append(f"resemblance to a chest {chest:.2f}, usual above {LEAST_CHEST}")
        if odd > MOST_ODD:
            why.append(f"unlike the other images {odd:.2f}, usual below {MOST_ODD}")
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
        "drop the rows, or correct the view: lungs are not told from background in other views",
    )
    shown = [Picture(image) for image in scan.frame.loc[views.index, "image"] if image]
    return from_problem(problem, "views", Severity.WARNING, shown)


CHECK = Check("views", "images are frontal chest X-rays: by the column 'view', and suspects by their looks", find)
