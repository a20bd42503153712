"""The inventory of a root: its files at one time, under their pseudonyms, and those of earlier runs that are gone."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cxr_isnet.errors import InputError
from cxr_isnet.files import without_apostrophe, write_csv
from cxr_isnet.imaging import RejectionReason
from cxr_isnet.intake.discovery import FoundFile, Rejected, find_files
from cxr_isnet.intake.import_log import ImportLog
from cxr_isnet.intake.pseudonyms import Pseudonyms

FILE_NAMES = "files.csv"


@dataclass
class Inventory:
    """The files of a root; iterates over pseudonym and file, in the order of their names.

    They lie in a nameless file of the private folder: memory does not grow with them, and the root is walked once.

    Attributes:
        files: their number.
        gone: files that an earlier run found and this one did not.
        unlisted: folders and archives whose files could not be listed.
    """

    _spool: IO[str]
    files: int = 0
    gone: int = 0
    unlisted: int = 0

    def add(self, file_id: str, found: FoundFile) -> None:
        """Adds a file."""
        rejection = found.rejection and (found.rejection.reason.value, found.rejection.detail)
        fields = (file_id, found.name, str(found.path), found.member, found.stamp, rejection)
        self._spool.write(json.dumps(fields) + "\n")
        self.files += 1
        self.unlisted += found.unlisted

    def __iter__(self) -> Iterator[tuple[str, FoundFile]]:
        self._spool.seek(0)
        for line in self._spool:
            file_id, name, path, member, stamp, rejection = json.loads(line)
            rejected = Rejected(RejectionReason(rejection[0]), rejection[1]) if rejection else None
            yield file_id, FoundFile(name, Path(path), member, stamp, rejected)


@contextmanager
def take_inventory(
    root: Path, private: Path, pseudonyms: Pseudonyms, log: ImportLog, *, follow_links: bool, prune: bool
) -> Iterator[Inventory]:
    """Walks a root, marks its files as seen in the log, and writes the private table of pseudonyms and names.

    Args:
        root: as `resolved_root` gives it.
        private: folder of the table, which keeps the names of files that are gone.
        pseudonyms: of the intake.
        log: of the intake.
        follow_links: as in `find_files`.
        prune: whether the log forgets the files that are gone.

    Raises:
        InputError: it holds no file; or it is to be pruned, but what is gone cannot be told.
    """
    with tempfile.TemporaryFile("w+", dir=private, encoding="utf-8") as spool:
        inventory = Inventory(spool)

        def names() -> Iterator[tuple[str, str]]:
            yield from _found_names(root, pseudonyms, log, inventory, follow_links)
            if not inventory.files:
                raise InputError(f"root '{root}' holds no file. Mount it, or correct the path; nothing was changed")
            kept = list(_gone_names(root, private / FILE_NAMES, log))
            inventory.gone = log.count_gone()
            if prune:
                _prune(log, inventory)
            else:
                yield from kept

        write_csv(private / FILE_NAMES, ("file_id", "file"), names())
        yield inventory


def _found_names(
    root: Path, pseudonyms: Pseudonyms, log: ImportLog, inventory: Inventory, follow_links: bool
) -> Iterator[tuple[str, str]]:
    """Walks the root: fills the inventory and gives the rows of the table of names."""
    for found in find_files(root, follow_links=follow_links):
        name, file_id = found.name, pseudonyms.of_file(root, found.name)
        if found.rejection and found.rejection.reason is RejectionReason.UNREADABLE and log.is_accepted(file_id):
            continue  # it cannot be reached: it counts as gone, and its image stays
        number = 1
        while not log.mark_seen(file_id):  # an archive may hold several members of one name
            number += 1
            name = f"{found.name}#{number}"
            file_id = pseudonyms.of_file(root, name)
        inventory.add(file_id, found)
        yield file_id, name


def _gone_names(root: Path, table: Path, log: ImportLog) -> Iterator[tuple[str, str]]:
    """The rows of files that are gone; the log forgets folders and archives that could not be listed and now can."""
    base = root if root.is_dir() else root.parent
    for file_id, name in _known_names(table):
        if log.is_gone(file_id):
            if os.path.exists(base / name):
                log.forget(file_id)
            else:
                yield file_id, name


def _prune(log: ImportLog, inventory: Inventory) -> None:
    if inventory.unlisted:
        raise InputError(
            f"prune: {inventory.unlisted} folders or archives of the root cannot be listed, so that their files look "
            "gone. Run without prune, repair what the quarantine names, and prune then"
        )
    log.prune()


def _known_names(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_file():
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            try:
                for row in csv.DictReader(stream):
                    yield row["file_id"], without_apostrophe(row["file"])
            except (KeyError, csv.Error, AttributeError) as error:
                raise InputError(
                    f"{path}: not as an intake writes it ({type(error).__name__}). Restore it, or remove it: a new "
                    "one is written then, without the names of files that are gone"
                ) from error
