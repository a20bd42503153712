"""The import log: the outcome of every file in one SQLite database, so that a killed intake can be resumed."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import RejectionReason
from cxr_isnet.intake.importer import Imported, Rejected

IMPORT_LOG_NAME = "import_log.sqlite"
_OLD_NAME = "log.sqlite"
_COMMIT_INTERVAL = 1.0  # seconds of work that a kill may cost

_RETRIED = (RejectionReason.UNREADABLE.value, RejectionReason.CRASHED.value)
"""Reasons that lie in the circumstances: the same file may be readable next time."""

_SCHEMA = """
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
CREATE TEMP TABLE seen (file_id TEXT PRIMARY KEY);
"""

_ACCEPTED = """
SELECT file_id, patient, accession, record,
    instance <> '' AND EXISTS (
        SELECT 1 FROM files AS other JOIN seen USING (file_id)
        WHERE other.instance = files.instance AND other.content <> files.content AND other.reason = ''
    )
FROM files JOIN seen USING (file_id)
WHERE reason = '' AND file_id = (
    SELECT min(twin.file_id) FROM files AS twin JOIN seen USING (file_id)
    WHERE twin.content = files.content AND twin.reason = ''
)
ORDER BY patient, file_id
"""

_QUARANTINED = """
SELECT file_id, reason, record, '' FROM files JOIN seen USING (file_id) WHERE reason <> ''
UNION ALL
SELECT file_id, reason, '', first FROM (
    SELECT files.file_id, reason, (
        SELECT min(twin.file_id) FROM files AS twin JOIN seen USING (file_id)
        WHERE twin.content = files.content AND twin.reason = ''
    ) AS first
    FROM files JOIN seen USING (file_id) WHERE reason = ''
) WHERE file_id <> first
ORDER BY 1
"""


@dataclass(frozen=True)
class AcceptedRow:
    """A row of the manifest: an accepted file.

    Attributes:
        file_id: pseudonym of its name.
        patient: pseudonym of its patient.
        accession: pseudonym of its accession number, or "".
        record: the other fields of its `Imported`.
        repeated: whether another accepted file of different content has the same SOPInstanceUID.
    """

    file_id: str
    patient: str
    accession: str
    record: dict[str, Any]
    repeated: bool


@dataclass(frozen=True)
class QuarantinedRow:
    """A row of the quarantine: a rejected file, or a copy of an accepted one.

    Attributes:
        file_id: pseudonym of its name.
        reason: value of `RejectionReason`; "" for a copy.
        detail: the tag, the value seen and the remedy; "" for a copy.
        copy_of: pseudonym of the file that it is a copy of, or "".
    """

    file_id: str
    reason: str
    detail: str
    copy_of: str


class ImportLog:
    """The import log of one output folder, a context manager. Holds pseudonyms only."""

    def __init__(self, folder: Path) -> None:
        """Opens the log, or creates it.

        Args:
            folder: the output; exists.

        Raises:
            InputError: another intake is writing, the file is not an import log, or it is one of an earlier version.
        """
        if (folder / _OLD_NAME).exists():
            raise InputError(
                f"{folder / _OLD_NAME}: an import log of an earlier version, which cannot be resumed. "
                "Name another output, or remove this folder"
            )
        self._path = folder / IMPORT_LOG_NAME
        self._database = sqlite3.connect(self._path, timeout=0)
        self._committed = time.monotonic()
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_SCHEMA)
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

    def check_settings(self, settings: dict[str, str]) -> None:
        """Stores the settings of the first run; checks that those of a later run are the same.

        Args:
            settings: name to value.

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
                "Use the same settings to resume, or name another output"
            )

    def mark_seen(self, file_id: str) -> tuple[str, str] | None:
        """Marks a file as seen in this run: the tables list no others.

        Args:
            file_id: pseudonym of its name.

        Returns:
            Its stamp and its image, "" for a rejected one; None if it has no outcome yet or must be tried again.
        """
        self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (file_id,))
        row = self._database.execute("SELECT stamp, image, reason FROM files WHERE file_id = ?", (file_id,)).fetchone()
        return None if row is None or row[2] in _RETRIED else (str(row[0]), str(row[1]))

    def record(self, file_id: str, stamp: str, outcome: Imported | Rejected) -> None:
        """Records an outcome in place of an earlier one of the same file; it is committed within a second.

        Args:
            file_id: pseudonym of the file's name.
            stamp: of the file.
            outcome: of its import.
        """
        if isinstance(outcome, Imported):
            fields = asdict(outcome)
            keys = [fields.pop(name) for name in ("patient", "accession", "content", "instance")]
            row = (file_id, stamp, outcome.image, *keys, "", json.dumps(fields))
        else:
            row = (file_id, stamp, "", "", "", "", "", outcome.reason.value, outcome.detail)
        self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if time.monotonic() - self._committed > _COMMIT_INTERVAL:
            self._database.commit()
            self._committed = time.monotonic()

    def accepted(self) -> Iterator[AcceptedRow]:
        """The accepted files seen in this run, one of each content, sorted by patient and file."""
        for file_id, patient, accession, record, repeated in self._database.execute(_ACCEPTED):
            yield AcceptedRow(file_id, patient, accession, json.loads(record), bool(repeated))

    def quarantined(self) -> Iterator[QuarantinedRow]:
        """The rejected files seen in this run, and the copies of accepted ones, sorted by file."""
        for row in self._database.execute(_QUARANTINED):
            yield QuarantinedRow(*map(str, row))
