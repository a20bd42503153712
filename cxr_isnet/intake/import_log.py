"""What an intake has done so far: one SQLite file, so that it can be killed at any moment and go on."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.rejection import RejectionReason
from cxr_isnet.intake.importer import Imported, Rejected

LEDGER_NAME = "log.sqlite"
_SECONDS = 1.0  # of work that a kill may cost

_TRIED_AGAIN = (RejectionReason.UNREADABLE.value, RejectionReason.CRASHED.value)
"""Reasons that lie in the circumstances: the file may be as it was, and yet be read next time."""

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    file_id TEXT PRIMARY KEY,
    stamp TEXT NOT NULL,
    image TEXT NOT NULL,
    patient TEXT NOT NULL,
    accession TEXT NOT NULL,
    content TEXT NOT NULL,
    instance TEXT NOT NULL,
    reason TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_content ON files (content);
CREATE INDEX IF NOT EXISTS by_instance ON files (instance);
CREATE TEMP TABLE present (file_id TEXT PRIMARY KEY);
"""

_ACCEPTED = """
SELECT file_id, patient, accession, record,
    instance <> '' AND EXISTS (
        SELECT 1 FROM files AS other JOIN present USING (file_id)
        WHERE other.instance = files.instance AND other.content <> files.content AND other.reason = ''
    )
FROM files JOIN present USING (file_id)
WHERE reason = '' AND file_id = (
    SELECT min(twin.file_id) FROM files AS twin JOIN present USING (file_id)
    WHERE twin.content = files.content AND twin.reason = ''
)
ORDER BY patient, file_id
"""

_QUARANTINED = """
SELECT file_id, reason, record, '' FROM files JOIN present USING (file_id) WHERE reason <> ''
UNION ALL
SELECT file_id, reason, '', first FROM (
    SELECT files.file_id, reason, (
        SELECT min(twin.file_id) FROM files AS twin JOIN present USING (file_id)
        WHERE twin.content = files.content AND twin.reason = ''
    ) AS first
    FROM files JOIN present USING (file_id) WHERE reason = ''
) WHERE file_id <> first
ORDER BY 1
"""


@dataclass(frozen=True)
class AcceptedRow:
    """A file of the manifest.

    Attributes:
        file_id: pseudonym of its name.
        patient: pseudonym of its patient.
        accession: pseudonym of its accession number, or "".
        record: the rest of its `Imported`.
        repeated: whether another accepted file of other content carries the same SOPInstanceUID.
    """

    file_id: str
    patient: str
    accession: str
    record: dict[str, Any]
    repeated: bool


@dataclass(frozen=True)
class QuarantinedRow:
    """A file of the quarantine.

    Attributes:
        file_id: pseudonym of its name.
        reason: value of `RejectionReason`; "" for a copy.
        detail: what stands in the way.
        copy_of: pseudonym of the file that it is a copy of, or "".
    """

    file_id: str
    reason: str
    detail: str
    copy_of: str


class ImportLog:
    """The record of an intake. Holds pseudonyms only. Use as a context."""

    def __init__(self, folder: Path) -> None:
        """Open, or make.

        Args:
            folder: of the output; exists.

        Raises:
            InputError: another intake is writing, or the file is no log.
        """
        self._path = folder / LEDGER_NAME
        self._database = sqlite3.connect(self._path, timeout=0)
        self._committed = time.monotonic()
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_TABLES)
            self._database.execute("BEGIN IMMEDIATE")
            self._database.commit()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise InputError(
                f"{self._path}: {error}. Wait for the other intake into this folder to end, or name another output"
            ) from error

    def __enter__(self) -> ImportLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.commit()
        self._database.close()

    def agree(self, settings: dict[str, str]) -> None:
        """Note the settings, or check that they are those of the earlier runs.

        Raises:
            InputError: names the settings that differ.
        """
        known = dict(self._database.execute("SELECT name, value FROM settings"))
        if not known:
            self._database.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())
            self._database.commit()
            return
        differing = sorted(name for name in known.keys() | settings.keys() if known.get(name) != settings.get(name))
        if differing:
            raise InputError(
                f"{self._path.parent}: was begun with another {', '.join(differing)}. "
                "Use the same settings to go on, or name another output"
            )

    def meet(self, file_id: str) -> tuple[str, str] | None:
        """Note that a file is there; returns its stamp and image ("" for a refused one) if it was dealt with
        before and need not be tried again."""
        self._database.execute("INSERT OR IGNORE INTO present VALUES (?)", (file_id,))
        row = self._database.execute("SELECT stamp, image, reason FROM files WHERE file_id = ?", (file_id,)).fetchone()
        return None if row is None or row[2] in _TRIED_AGAIN else (str(row[0]), str(row[1]))

    def enter(self, file_id: str, stamp: str, outcome: Imported | Rejected) -> None:
        """Write an outcome, in place of an earlier one of the same file; it is safe after a second."""
        if isinstance(outcome, Imported):
            fields = asdict(outcome)
            keys = [fields.pop(name) for name in ("patient", "accession", "content", "instance")]
            row = (file_id, stamp, outcome.image, *keys, "", json.dumps(fields))
        else:
            row = (file_id, stamp, "", "", "", "", "", outcome.reason.value, outcome.detail)
        self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if time.monotonic() - self._committed > _SECONDS:
            self._database.commit()
            self._committed = time.monotonic()

    def accepted(self) -> Iterator[AcceptedRow]:
        """The files that are there and were taken, one of each content, by patient and file."""
        for file_id, patient, accession, record, repeated in self._database.execute(_ACCEPTED):
            yield AcceptedRow(file_id, patient, accession, json.loads(record), bool(repeated))

    def quarantined(self) -> Iterator[QuarantinedRow]:
        """The files that are there and were refused, and the copies, by file."""
        for row in self._database.execute(_QUARANTINED):
            yield QuarantinedRow(*map(str, row))
