"""The three tables of an intake, written whole from its log, in an order that does not depend on how it went."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cxr_isnet.files import atomic_write
from cxr_isnet.imaging.acceptance import Flag
from cxr_isnet.imaging.provenance import Provenance
from cxr_isnet.imaging.rejection import RejectionReason
from cxr_isnet.intake.import_log import AcceptedRow, ImportLog
from cxr_isnet.intake.label_join import Labels

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
class Tally:
    """What the tables hold.

    Attributes:
        accepted: rows of the manifest.
        patients: pseudonyms of patients in the manifest.
        refused: rows of the quarantine, by reason.
        flags: rows of the manifest, by flag.
        labels: rows of the manifest, by label.
    """

    accepted: int = 0
    patients: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)


def write_tables(log: ImportLog, output: Path, labels: Labels, constants: dict[str, str], shifted: bool) -> Tally:
    """Write `manifest.csv`, `provenance.csv` and `quarantine.csv`, row by row.

    Args:
        log: complete.
        output: folder.
        labels: of the images.
        constants: columns of the manifest with one value for all rows.
        shifted: whether the manifest has the column `study_date`.
    """
    tally = Tally()
    columns = [name for name in _MANIFEST_COLUMNS if shifted or name != "study_date"]
    _write(output / MANIFEST, columns, _manifest(log, labels, constants, tally))
    _write(output / PROVENANCE, _PROVENANCE_COLUMNS, _provenance(log))
    _write(output / QUARANTINE, _QUARANTINE_COLUMNS, _quarantine(log, tally))
    return tally


def _manifest(log: ImportLog, labels: Labels, constants: dict[str, str], tally: Tally) -> Iterator[dict[str, Any]]:
    last = ""
    for row in log.accepted():
        label, flags = labels.of(row), _flags(row)
        tally.accepted += 1
        tally.patients += row.patient != last
        tally.labels[label] += 1
        tally.flags.update(flags)
        last = row.patient
        yield {
            **constants,
            **row.record["manifest"],
            "image": row.record["image"],
            "label": label,
            "patient_id": row.patient,
            "flags": "; ".join(flags),
            "file_id": row.file_id,
        }


def _provenance(log: ImportLog) -> Iterator[dict[str, Any]]:
    for row in log.accepted():
        yield {
            **row.record["provenance"],
            "file_id": row.file_id,
            "image": row.record["image"],
            "flags": "; ".join(_flags(row)),
        }


def _quarantine(log: ImportLog, tally: Tally) -> Iterator[dict[str, Any]]:
    for row in log.quarantined():
        reason = row.reason or RejectionReason.DUPLICATE.value
        detail = row.detail or f"the same bytes as file {row.copy_of}, which is taken. Nothing needs to be done"
        tally.refused[reason] += 1
        yield {"file_id": row.file_id, "reason": reason, "detail": detail}


def _flags(row: AcceptedRow) -> list[str]:
    return [*row.record["flags"], *([Flag.REPEATED_INSTANCE.value] if row.repeated else [])]


def _write(path: Path, columns: Iterable[str], rows: Iterator[dict[str, Any]]) -> None:
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
