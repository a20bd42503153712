"""The import log: the outcome of every file in one SQLite database, so that a killed intake can be resumed."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import Flag, RejectionReason
from cxr_isnet.intake.discovery import Rejected
from cxr_isnet.intake.importer import Imported

IMPORT_LOG_NAME = "import_log.sqlite"
_OLD_NAME = "log.sqlite"
_COMMIT_INTERVAL = 1.0  # seconds of work that a kill may cost

_RETRIED = (RejectionReason.UNREADABLE.value, RejectionReason.CRASHED.value, RejectionReason.LIMIT.value)
"""Reasons that lie in the circumstances: the same file may be read next time, or with other limits."""

_KEYS = ("patient", "accession", "content", "instance", "study", "birth")
"""Fields of `Imported` that are columns of the log; the others are stored as they are."""

_VERSION = 3  # as the schema sets it
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
    study TEXT NOT NULL,
    birth TEXT NOT NULL,
    sex TEXT NOT NULL,
    reason TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_content ON files (content);
CREATE TABLE IF NOT EXISTS told (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS labels (content TEXT PRIMARY KEY, label TEXT NOT NULL);
CREATE TEMP TABLE seen (file_id TEXT PRIMARY KEY);
CREATE TEMP VIEW copies AS
    SELECT *, row_number() OVER order_of_copies AS place, first_value(file_id) OVER order_of_copies AS first
    FROM files WHERE reason = ''
    WINDOW order_of_copies AS (PARTITION BY content ORDER BY file_id NOT IN (SELECT file_id FROM seen), file_id);
PRAGMA user_version = 3;
"""
"""Of files of one content, one that the root still holds goes first: its row stands for all."""

_ACCEPTED = """
SELECT file_id, patient, accession, study, instance, record,
    instance IN (
        SELECT instance FROM files WHERE instance <> '' GROUP BY instance HAVING count(DISTINCT content) > 1
    ),
    study IN (SELECT study FROM files WHERE study <> '' GROUP BY study HAVING count(DISTINCT patient) > 1),
    patient IN (
        SELECT patient FROM files GROUP BY patient
        HAVING count(DISTINCT nullif(birth, '')) > 1 OR count(DISTINCT nullif(sex, '')) > 1
    )
FROM copies WHERE place = 1 ORDER BY patient, file_id
"""
"""With three marks: one instance of several contents, one study of several patients, one patient of several persons."""

_MARKS = (Flag.REPEATED_INSTANCE, Flag.SHARED_STUDY, Flag.MIXED_PATIENT)

_QUARANTINED = """
SELECT file_id, reason, record, '' FROM files WHERE reason <> ''
UNION ALL
SELECT file_id, reason, '', first FROM copies WHERE place > 1
ORDER BY 1
"""

_KEPT_LABELS = "SELECT file_id, label FROM copies JOIN labels USING (content) WHERE place = 1"
_KEEP_LABEL = "INSERT OR REPLACE INTO labels SELECT content, ? FROM files WHERE file_id = ?"

_IN_MANIFEST = """
SELECT twin.file_id FROM files JOIN files AS twin USING (content)
WHERE files.file_id = ? AND files.reason = '' AND twin.reason = ''
ORDER BY twin.file_id NOT IN (SELECT file_id FROM seen), twin.file_id LIMIT 1
"""
_IS_ACCEPTED = "SELECT 1 FROM files WHERE file_id = ? AND reason = ''"
_IS_GONE = "SELECT 1 FROM files WHERE file_id = ? AND file_id NOT IN (SELECT file_id FROM seen)"


def holds_import_log(folder: Path) -> bool:
    """Whether a folder is the output of an intake, be it of an earlier version."""
    return any((folder / name).exists() for name in (IMPORT_LOG_NAME, _OLD_NAME))


@dataclass(frozen=True)
class AcceptedRow:
    """A row of the manifest: an accepted file.

    Attributes:
        file_id: pseudonym of its name.
        pseudonyms: of its "patient", "accession", "study" and "instance"; "" for what it has not.
        record: the other fields of its `Imported`.
        flags: reasons for manual review, also those that other files of the intake give.
    """

    file_id: str
    pseudonyms: dict[str, str]
    record: dict[str, Any]
    flags: tuple[str, ...]

    @property
    def patient(self) -> str:
        """Pseudonym of its patient."""
        return self.pseudonyms["patient"]


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
            InputError: the file is not an import log, is one of an earlier version, is in use, or cannot be written.
        """
        self._path = folder / IMPORT_LOG_NAME
        self._committed = time.monotonic()
        self._database = sqlite3.connect(self._path, timeout=0)
        try:
            if (folder / _OLD_NAME).exists() or self._is_of_another_version():
                raise InputError(
                    f"{folder}: holds an import log of an earlier version, which cannot be resumed. "
                    "Name another output, or remove this folder"
                )
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_SCHEMA)
            self._database.execute("BEGIN IMMEDIATE")
            self._database.commit()
        except (sqlite3.Error, InputError) as error:
            self._database.close()
            raise self._explained(error) from error

    def _is_of_another_version(self) -> bool:
        ((tables,),) = self._database.execute("SELECT count(*) FROM sqlite_master")
        ((version,),) = self._database.execute("PRAGMA user_version")
        return bool(tables) and version != _VERSION

    def _explained(self, error: Exception) -> Exception:
        """An error of the database as one that says what to do."""
        if not isinstance(error, sqlite3.Error):
            return error
        return InputError(
            f"{self._path}: {error}. Free some space, correct the permissions, or name another output; then run "
            "again to resume"
        )

    def __enter__(self) -> ImportLog:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            with closing(self._database):
                if not isinstance(error, sqlite3.Error):
                    self._database.commit()
        except sqlite3.Error as last:
            raise self._explained(last) from last
        if isinstance(error, sqlite3.Error):
            raise self._explained(error) from error

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

    def told(self, values: dict[str, str | None]) -> dict[str, str]:
        """What this run was told, else what an earlier one was: what a command leaves out is not a decision against it.

        Args:
            values: name to value; None for what this run was not told.

        Returns:
            Name to value, without what no run was told; it is kept for later runs.
        """
        now = [(name, value) for name, value in values.items() if value is not None]
        self._database.executemany("INSERT OR REPLACE INTO told VALUES (?, ?)", now)
        return dict(self._database.execute("SELECT name, value FROM told"))

    def keep_labels(self, labels: Mapping[str, str]) -> None:
        """Keeps the labels of files for later runs, in place of those that were kept."""
        self._database.execute("DELETE FROM labels")
        self._database.executemany(_KEEP_LABEL, ((label, file_id) for file_id, label in labels.items()))

    def kept_labels(self) -> dict[str, str]:
        """Labels of the manifest's files from an earlier run's table; empty if none had one."""
        return dict(self._database.execute(_KEPT_LABELS))

    def mark_seen(self, file_id: str) -> bool:
        """Marks a file as found in the root in this run.

        Args:
            file_id: pseudonym of its name.

        Returns:
            Whether no other file of this run has the same.
        """
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (file_id,)).rowcount == 1

    def outcome(self, file_id: str) -> tuple[str, str] | None:
        """The stamp and the image, "" for a rejected one, of a file; None if it must be tried, for the first time or
        again."""
        row = self._database.execute("SELECT stamp, image, reason FROM files WHERE file_id = ?", (file_id,)).fetchone()
        return None if row is None or row[2] in _RETRIED else (str(row[0]), str(row[1]))

    def is_accepted(self, file_id: str) -> bool:
        """Whether a file has been accepted, in this run or before."""
        return self._database.execute(_IS_ACCEPTED, (file_id,)).fetchone() is not None

    def is_gone(self, file_id: str) -> bool:
        """Whether an earlier run has found a file and this one has not."""
        return self._database.execute(_IS_GONE, (file_id,)).fetchone() is not None

    def copy_in_manifest(self, file_id: str) -> str:
        """The file whose row in the manifest stands for an accepted file and its copies, "" for any other file."""
        row = self._database.execute(_IN_MANIFEST, (file_id,)).fetchone()
        return str(row[0]) if row else ""

    def count_gone(self) -> int:
        """The number of files that earlier runs have found and this one has not."""
        ((count,),) = self._database.execute("SELECT count(*) FROM files WHERE file_id NOT IN (SELECT * FROM seen)")
        return int(count)

    def forget(self, file_id: str) -> None:
        """Removes the outcome of a file that is none any more."""
        self._database.execute("DELETE FROM files WHERE file_id = ?", (file_id,))

    def prune(self) -> None:
        """Removes the outcomes of all files that are gone."""
        self._database.execute("DELETE FROM files WHERE file_id NOT IN (SELECT * FROM seen)")

    def names_image(self, image: str) -> bool:
        """Whether a row names an image, a path relative to the output."""
        content = PurePosixPath(image).stem
        found = self._database.execute("SELECT 1 FROM files WHERE content = ? AND image = ?", (content, image))
        return found.fetchone() is not None

    def record(self, file_id: str, stamp: str, outcome: Imported | Rejected) -> None:
        """Records an outcome in place of an earlier one of the same file; it is committed within a second.

        Args:
            file_id: pseudonym of the file's name.
            stamp: of the file.
            outcome: of its import.
        """
        if isinstance(outcome, Imported):
            fields = asdict(outcome)
            keys = [fields.pop(name) for name in _KEYS]
            row = (file_id, stamp, outcome.image, *keys, outcome.manifest.get("sex", ""), "", json.dumps(fields))
        else:
            row = (file_id, stamp, "", *("" for _ in _KEYS), "", outcome.reason.value, outcome.detail)
        self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if time.monotonic() - self._committed > _COMMIT_INTERVAL:
            self._database.commit()
            self._committed = time.monotonic()

    def accepted(self) -> Iterator[AcceptedRow]:
        """The accepted files, one of each content, sorted by patient and file."""
        for file_id, patient, accession, study, instance, text, *marks in self._database.execute(_ACCEPTED):
            record = json.loads(text)
            pseudonyms = {"patient": patient, "accession": accession, "study": study, "instance": instance}
            found = [flag.value for flag, marked in zip(_MARKS, marks, strict=True) if marked]
            yield AcceptedRow(file_id, pseudonyms, record, (*record["flags"], *found))

    def quarantined(self) -> Iterator[QuarantinedRow]:
        """The rejected files, and the copies of accepted ones, sorted by file."""
        for row in self._database.execute(_QUARANTINED):
            yield QuarantinedRow(*map(str, row))
