"""Confounders of the label: hospital, view, sex, age, device, file. A class of one hospital only is a shortcut."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_isnet.checks.association import cramers_v, permutation_p
from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Contingency, Finding, Severity
from cxr_isnet.checks.scan import MAX_VALUES, STUDY_COLUMNS, ManifestScan
from cxr_isnet.evaluation import age_bands

STRONG = 0.3
"""Cramér's V from which an association is a warning."""

SIGNIFICANT = 0.01
ONE_SIDED = 0.95
"""Share of a label's patients with one value from which the message names it."""

_NOT_PROPERTIES = (
    "image",
    "mask",
    "mask_source",
    "label",
    "patient_id",
    "age",
    "split",
    "sha256",
    "licence",
    *STUDY_COLUMNS,
)
_MASK = "mask"
_EMPTY = "(empty)"


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find the association of every property with the label, strongest first; warn where it could be a shortcut."""
    frame = scan.frame
    if frame.empty or frame["label"].nunique() < 2:
        return
    patients = np.asarray(frame.groupby(["site", "patient_id"], sort=False).ngroup(), dtype=np.int64)
    associations = [_association(patients, frame["label"], values) for _, values in _properties(scan).items()]
    for found in sorted((one for one in associations if one is not None), key=lambda one: -one.cramers_v):
        strong = found.cramers_v >= STRONG and found.p_value <= SIGNIFICANT
        severity = Severity.WARNING if strong else Severity.INFO
        yield Finding("confounding", severity, _message(found, strong), column=found.property, contingency=found)


def _properties(scan: ManifestScan) -> pd.DataFrame:
    """Properties that may be confounders: columns of the tables, and properties of the files."""
    frame = scan.frame
    own = {
        column: frame[column]
        for column in frame.columns
        if column not in _NOT_PROPERTIES and frame[column].nunique() <= MAX_VALUES
    }
    if "age" in frame.columns:
        own["age band"] = age_bands(frame["age"])
    kinds = [os.path.splitext(image)[1].lower() or "(none)" for image in frame["image"]]
    shapes = [scan.images[image].shape if image else (0, 0) for image in frame["image"]]
    own["file type"] = pd.Series(kinds, index=frame.index)
    own["shape"] = pd.Series([_shape(rows, columns) for rows, columns in shapes], index=frame.index)
    own[_MASK] = (frame["mask"] != "").map({True: "given", False: "none"})
    return pd.DataFrame(own, index=frame.index).fillna(_EMPTY).replace("", _EMPTY)


def _shape(rows: int, columns: int) -> str:
    """Size and proportions in coarse categories: the longest side in powers of two."""
    if not rows:
        return _EMPTY
    size = 2 ** round(np.log2(max(rows, columns)))
    form = "square" if 0.95 < rows / columns < 1.05 else "upright" if rows > columns else "wide"
    return f"about {size} px, {form}"


def _association(patients: NDArray[np.int64], labels: pd.Series, values: pd.Series) -> Contingency | None:
    """Contingency table of patients, most frequent values first; None when all have one value."""
    rows, names = pd.factorize(values, sort=True)
    columns, classes = pd.factorize(labels, sort=True)
    shape = (len(names), len(classes))
    if min(shape) < 2:
        return None
    units = np.unique((patients * shape[0] + rows) * shape[1] + columns)  # each patient once per value and label
    counts = np.bincount(units % (shape[0] * shape[1]), minlength=shape[0] * shape[1]).reshape(shape)
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    counts = counts[order]
    return Contingency(
        property=str(values.name),
        values=tuple(str(names[row]) for row in order),
        labels=tuple(map(str, classes)),
        counts=tuple(tuple(int(count) for count in row) for row in counts),
        cramers_v=cramers_v(counts),
        p_value=permutation_p(counts),
    )


def _message(found: Contingency, strong: bool) -> str:
    counts = np.array(found.counts)
    guessed, majority = counts.max(axis=1).sum() / counts.sum(), counts.sum(axis=0).max() / counts.sum()
    text = (
        f"label against {found.property}: Cramér's V {found.cramers_v:.2f} (p {_p(found.p_value)}). Guessing the label "
        f"from it alone is right for {100 * guessed:.0f}% of patients, without it for {100 * majority:.0f}%"
    )
    shares = counts / counts.sum(axis=0)
    one_sided = [
        f"{100 * shares[row, column]:.0f}% of '{label}' have '{found.values[row]}'"
        for column, label in enumerate(found.labels)
        for row in [int(shares[:, column].argmax())]
        if shares[row, column] >= ONE_SIDED
    ]
    if one_sided and strong:
        text += f". {'; '.join(one_sided)}"
    if strong and found.property == _MASK:
        text += (
            ". The background of images without a mask is not penalised: annotate or predict masks for all labels alike"
        )
    elif strong:
        text += (
            f". A classifier can learn the {found.property} instead of the disease: add sources that have the other "
            "labels, balance them, or train with masks and test on a site that has all labels"
        )
    return text


def _p(value: float) -> str:
    return "at most 0.001" if value <= 0.001 else f"{value:.3f}"


CHECK = Check("confounding", "the label is not confounded with site, view, sex, age, device, or the kind of file", find)
