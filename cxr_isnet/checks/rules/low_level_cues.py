"""Controls: what classifiers that see no lungs tell of the label, within the tables and moved to others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import ControlScore, Finding, Severity
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.evaluation import (
    CONTROLS,
    MIN_PATIENTS,
    NO_MASK,
    Control,
    FloatArray,
    HandTillAUC,
    IntArray,
    Interval,
    PatientBootstrap,
    cross_validate,
    fit_control,
    patient_numbers,
)

MAX_IMAGES = 5000
"""Images that controls learn from, or are tested on; of more, patients are drawn at random."""

_PATIENT = ["site", "patient_id"]


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find what controls reach: of every table, or of all but the external ones together, moved to each other one."""
    samples = {table: _Sample.of(scan, [table]) for table in scan.tables}
    if scan.external:
        training = [table for table in scan.tables if table not in scan.external]
        yield from _learned(_Sample.of(scan, training), {name: samples[name] for name in scan.external})
        return
    usable = {name: sample for name, sample in samples.items() if len(sample.labels) > 1}
    for name, sample in usable.items():
        yield from _learned(sample, {other: there for other, there in samples.items() if other != name})
    if len(usable) < len(samples) > 1:
        yield from _learned(_Sample.of(scan, scan.tables), {})


@dataclass(frozen=True)
class _Sample:
    """Readable images of one or more tables that have a label which enough patients have.

    Attributes:
        name: of the tables.
        rows: of the tables' frame.
        features: (N, F) what controls see.
        labels: that have `MIN_PATIENTS` patients or more.
    """

    name: str
    rows: pd.DataFrame
    features: FloatArray
    labels: tuple[str, ...]

    @classmethod
    def of(cls, scan: ManifestScan, tables: Sequence[str]) -> _Sample:
        name = " + ".join(tables)
        here = np.array([place.table in tables for place in scan.frame.index], dtype=bool)
        readable = np.array([bool(image) and not scan.images[image].problem for image in scan.frame["image"]])
        rows = scan.frame[here & readable].drop_duplicates("image")
        patients = rows.drop_duplicates([*_PATIENT, "label"])["label"].value_counts()
        labels = tuple(sorted(str(label) for label, count in patients.items() if label and count >= MIN_PATIENTS))
        rows = _drawn(rows)
        features = [np.append(scan.images[i].features, scan.masks[m].features if m else NO_MASK)
                    for i, m in zip(rows["image"], rows["mask"], strict=True)]  # fmt: skip
        return cls(name, rows, np.array(features, dtype=np.float64), labels)

    def seen_by(self, control: Control, labels: Sequence[str]) -> tuple[pd.DataFrame, FloatArray, IntArray]:
        """Rows, features and numbers of the labels, of the images that a control sees and that have such a label."""
        places = {label: place for place, label in enumerate(labels)}
        numbers = np.array([places.get(label, -1) for label in self.rows["label"]], dtype=np.int64)
        seen = numbers >= 0
        if seen.any():
            seen &= control.sees(self.features)
        return self.rows[seen], self.features[seen], numbers[seen]


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) <= MAX_IMAGES:
        return rows
    patients = patient_numbers(rows)
    count = int(patients.max()) + 1
    place = np.random.default_rng(0).permutation(count)[patients]
    return rows.loc[place < MAX_IMAGES * count / len(rows)]


def _learned(sample: _Sample, others: dict[str, _Sample]) -> Iterator[Finding]:
    if len(sample.labels) < 2:
        return
    scores: list[ControlScore] = []
    for control in CONTROLS:
        rows, features, numbers = sample.seen_by(control, sample.labels)
        patients = rows.assign(number=numbers).drop_duplicates([*_PATIENT, "number"])["number"].value_counts()
        if len(patients) < len(sample.labels) or patients.min() < MIN_PATIENTS:
            continue
        groups = patient_numbers(rows)
        within = cross_validate(control, features, numbers, groups, len(sample.labels))
        scores.append(ControlScore(control.name, "", len(rows), _auc(rows, numbers, within)))
        predict = fit_control(control, features, numbers, len(sample.labels))
        for name, other in others.items():
            there, seen, truth = other.seen_by(control, sample.labels)
            if len(np.unique(truth)) > 1:
                scores.append(ControlScore(control.name, name, len(there), _auc(there, truth, predict(seen))))
    if scores:
        yield Finding(
            "controls",
            Severity.INFO,
            f"{sample.name}: AUC of telling {', '.join(sample.labels)} without seeing lungs, by cross-validation over "
            "patients, and moved to other tables. A shortcut reaches as much: read a model's AUC beside it",
            controls=tuple(scores),
        )


def _auc(rows: pd.DataFrame, labels: IntArray, scores: FloatArray) -> Interval:
    return PatientBootstrap.of(rows).intervals({"auc": HandTillAUC(labels, scores)})["auc"]


CHECK = Check(
    "controls",
    "what a thumbnail, its border and the mask's shape tell of the label is known",
    find,
)
