"""Patients in two splits, in two tables, under two labels or two sites."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity, from_problem
from cxr_isnet.checks.scan import STUDY_COLUMNS, ManifestScan
from cxr_isnet.manifests import patient_overlap_problems

_PATIENT = ["site", "patient_id"]
_PLACEHOLDER = re.compile(r"(anon\w*|unknown|none|null|nan|n/?a|no ?name|patient|test|de-?identified|[0x?._-]+)", re.I)
_MANY = 20
_MOST = 0.5
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
    for column in STUDY_COLUMNS:
        if column in frame.columns:
            yield from _studies(frame[frame[column] != ""], column)
    yield from _placeholders(frame)
    yield from _shared(
        frame,
        by=["patient_id"],
        column="site",
        severity=Severity.INFO,
        text="given at more than one site. If these are the same persons, give the site one spelling: a patient is "
        "identified by site and patient id together",
    )


def _studies(frame: pd.DataFrame, column: str) -> Iterator[Finding]:
    """Find studies of more than one patient: a study is of one person (PS3.3 A.1.2)."""
    patients = (frame["site"] + "\n" + frame["patient_id"]).groupby(frame[column]).transform("nunique")
    several = frame[patients > 1]
    if len(several):
        studies = several[column].unique()
        named = several.loc[several[column] == studies[0], "patient_id"].unique()[:_NAMED]
        message = (
            f"{len(studies)} studies are of more than one patient, as {studies[0]} of {', '.join(named)}. A study is "
            "of one person: give its images one patient_id, or training and test may share the person"
        )
        yield Finding(
            "patients", Severity.ERROR, message, tuple(several.index), column, pictures=tuple(_pictures(several))
        )


def _placeholders(frame: pd.DataFrame) -> Iterator[Finding]:
    """Find patient ids that name nobody: a placeholder word, or one id for most images of a site."""
    known = frame[frame["patient_id"] != ""]
    for (site, patient), rows in known.groupby(_PATIENT, sort=True):
        word = _PLACEHOLDER.fullmatch(str(patient).strip()) is not None and len(rows) > 1
        most = len(rows) >= _MANY and len(rows) > _MOST * int((known["site"] == site).sum())
        if word or most:
            message = (
                f"patient_id {patient!r} has {len(rows)} images of {site}: it seems to stand for several persons. "
                "Give the real ids or pseudonyms: without them no split by patient and no interval over patients holds"
            )
            yield Finding("patients", Severity.WARNING, message, tuple(rows.index), "patient_id", str(patient))


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
    "patients",
    "no patient is in two splits or two tables or stands for several persons; those of several labels are named",
    find,
)
