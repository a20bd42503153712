"""Images that are no frontal chest X-rays: by what the table says, and by how they look."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from cxr_isnet.checks.findings import Finding, Picture, Severity, from_problem
from cxr_isnet.checks.frontal import LEAST_CHEST, MOST_ODD, oddness, resemblance
from cxr_isnet.checks.registry import CHECKS, Check
from cxr_isnet.checks.survey import Survey
from cxr_isnet.manifests import ColumnProblem

_FRONTAL = re.compile(r"\b(AP|PA|FRONTAL|ANTEROPOSTERIOR|POSTEROANTERIOR|ANTERO-POSTERIOR|POSTERO-ANTERIOR)\b", re.I)


def find(survey: Survey) -> Iterator[Finding]:
    """Rows whose view is not frontal; pictures that look like no chest, or unlike all others."""
    frame = survey.frame
    if "view" in frame.columns:
        other = frame["view"].map(lambda view: bool(view) and not _FRONTAL.search(view))
        if other.any():
            yield _by_table(survey, frame.loc[other.astype(bool), "view"])
    yield from _suspects(survey)


def _suspects(survey: Survey) -> Iterator[Finding]:
    sites = [survey.rows(record.path)["site"].iloc[0] for record in survey.pictures]
    marks = zip(survey.pictures, resemblance(survey.thumbnails), oddness(survey.thumbnails, sites), strict=True)
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
        places = survey.places(record.path)
        yield Finding("views", Severity.WARNING, message, places, "image", pictures=(Picture(record.path),))


def _by_table(survey: Survey, views: pd.Series) -> Finding:
    problem = ColumnProblem(
        " + ".join(survey.tables),
        "view",
        views,
        "names a view that is not frontal",
        "drop the rows, or correct the view: lungs are not told from background in other views",
    )
    shown = [Picture(image) for image in survey.frame.loc[views.index, "image"] if image]
    return from_problem(problem, "views", Severity.WARNING, shown)


CHECKS.register(
    Check("views", "images are frontal chest X-rays: by the column 'view', and suspects by their looks", find)
)
