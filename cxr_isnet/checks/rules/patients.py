"""Patients in two splits, in two tables, under two labels or two sites."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity, from_problem
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.manifests import patient_overlap_problems

_PATIENT = ["site", "patient_id"]
_NAMED = 5
_SHOWN = 6


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find leaks of patients; a patient is identified by site and patient id."""
    frame = scan.frame
    for problem in patient_overlap_problems(frame, " + ".join(scan.tables)):
        yield from_problem(problem, "patients", Severity.ERROR, _pictures(frame.loc[problem.values.index]))
    tables = pd.Series([place.table for place in frame.index], index=frame.index)
    yield from _shared(
        frame.assign(table=tables),
        by=_PATIENT,
        column="table",
        severity=Severity.WARNING,
        text="in more than one table. Training on one and testing on the other would test on known patients: "
        "keep each patient in one table",
    )
    yield from _shared(
        frame,
        by=_PATIENT,
        column="label",
        severity=Severity.INFO,
        text="with images of more than one label, as after a follow-up. Make sure that the labels are per image, and "
        "split by patient, never by label's folder",
    )
    yield from _shared(
        frame,
        by=["patient_id"],
        column="site",
        severity=Severity.INFO,
        text="given at more than one site. If these are the same persons, give the site one spelling: a patient is "
        "identified by site and patient id together",
    )


def _shared(frame: pd.DataFrame, *, by: list[str], column: str, severity: Severity, text: str) -> Iterator[Finding]:
    """Find all groups of rows in which a column has several values, as one finding."""
    known = frame[(frame[by] != "").all(axis=1)]
    several = known[known.groupby(by)[column].transform("nunique") > 1]
    if several.empty:
        return
    groups = several.groupby(by, sort=True)[column].agg(lambda values: ", ".join(sorted(set(values))))
    ids = groups.index.get_level_values("patient_id")
    named = [f"{patient} ({values})" for patient, values in zip(ids[:_NAMED], groups, strict=False)]
    more = f" and {len(groups) - _NAMED} more" if len(groups) > _NAMED else ""
    if by == _PATIENT:
        of_sites = groups.groupby(level="site").size()
        subject = f"patients ({', '.join(f'{count} of {site}' for site, count in of_sites.items())}) are"
    else:
        subject = "patient ids are"
    message = f"{len(groups)} {subject} {text}: {', '.join(named)}{more}"
    ordered = several.sort_values(by, kind="stable")
    yield Finding("patients", severity, message, tuple(ordered.index), column, pictures=tuple(_pictures(ordered)))


def _pictures(rows: pd.DataFrame) -> list[Picture]:
    return [Picture(image) for image in rows["image"].head(_SHOWN) if image]


CHECK = Check(
    "patients", "no patient is in two splits or two tables; patients of several labels or sites are named", find
)
