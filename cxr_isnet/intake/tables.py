"""The three tables of an intake, written from its import log in an order that does not depend on the run."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cxr_isnet.files import write_csv
from cxr_isnet.imaging import Provenance, RejectionReason
from cxr_isnet.intake.import_log import ImportLog
from cxr_isnet.intake.label_join import JoinedLabels

MANIFEST = "manifest.csv"
PROVENANCE = "provenance.csv"
QUARANTINE = "quarantine.csv"

_MANIFEST_COLUMNS = (
    "image",
    "label",
    "patient_id",
    "site",
    "view",
    "sex",
    "age",
    "study_date",
    "body_part",
    "device",
    "licence",
    "sha256",
    "flags",
    "file_id",
)
_PROVENANCE_COLUMNS = ("file_id", "image", *(column.name for column in fields(Provenance)))
_QUARANTINE_COLUMNS = ("file_id", "reason", "detail")


@dataclass
class IntakeCounts:
    """Counts of the rows of the tables.

    Attributes:
        accepted: rows of the manifest.
        patients: patients of the manifest.
        rejected: rows of the quarantine, by reason.
        flags: rows of the manifest, by flag.
        labels: rows of the manifest, by label.
    """

    accepted: int = 0
    patients: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)


def write_tables(
    log: ImportLog, output: Path, labels: JoinedLabels, constants: dict[str, str], shifted: bool
) -> IntakeCounts:
    """Writes `manifest.csv`, `provenance.csv` and `quarantine.csv`, each whole or not at all.

    Args:
        log: of a finished intake.
        output: folder of the tables; exists.
        labels: of the images.
        constants: columns of the manifest with one value for all rows.
        shifted: whether the manifest has the column `study_date`, with shifted dates.

    Returns:
        The numbers of rows.
    """
    counts = IntakeCounts()
    columns = [name for name in _MANIFEST_COLUMNS if shifted or name != "study_date"]
    _write(output / MANIFEST, columns, _manifest(log, labels, constants, counts))
    _write(output / PROVENANCE, _PROVENANCE_COLUMNS, _provenance(log))
    _write(output / QUARANTINE, _QUARANTINE_COLUMNS, _quarantine(log, counts))
    return counts


def _manifest(
    log: ImportLog, labels: JoinedLabels, constants: dict[str, str], counts: IntakeCounts
) -> Iterator[dict[str, Any]]:
    last = ""
    for row in log.accepted():
        label = labels.label_of(row)
        counts.accepted += 1
        counts.patients += row.patient != last
        counts.labels[label] += 1
        counts.flags.update(row.flags)
        last = row.patient
        yield {
            **constants,
            **row.record["manifest"],
            "image": row.record["image"],
            "label": label,
            "patient_id": row.patient,
            "flags": "; ".join(row.flags),
            "file_id": row.file_id,
        }


def _provenance(log: ImportLog) -> Iterator[dict[str, Any]]:
    for row in log.accepted():
        yield {
            **row.record["provenance"],
            "file_id": row.file_id,
            "image": row.record["image"],
            "flags": "; ".join(row.flags),
        }


def _quarantine(log: ImportLog, counts: IntakeCounts) -> Iterator[dict[str, Any]]:
    for row in log.quarantined():
        reason = row.reason or RejectionReason.DUPLICATE.value
        detail = row.detail or f"the same bytes as file {row.copy_of}, which is accepted. Nothing needs to be done"
        counts.rejected[reason] += 1
        yield {"file_id": row.file_id, "reason": reason, "detail": detail}


def _write(path: Path, columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    write_csv(path, columns, ([row.get(column) for column in columns] for row in rows))
