"""Digests: of tables, so that a run says what it read, and of the files that a table names."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.column_mapping import MAPPING_SUFFIXES, read_column_mapping
from cxr_isnet.manifests.problems import ColumnProblem
from cxr_isnet.shipped import locate


def digest(*tables: str | Path) -> str:
    """SHA-256, in hexadecimal, of tables, one after the other; for a column mapping, of the mapping followed by its
    table.

    Raises:
        InputError: a file cannot be read.
    """
    found = hashlib.sha256()
    for path in map(locate, tables):
        for part in [path, read_column_mapping(path).table] if path.suffix.lower() in MAPPING_SUFFIXES else [path]:
            try:
                found.update(part.read_bytes())
            except OSError as error:
                raise InputError(f"{part}: the table cannot be read: {error}. Correct the path") from error
    return found.hexdigest()


def checksum_problems(frame: pd.DataFrame, found: Sequence[str], table: str) -> Iterator[ColumnProblem]:
    """Images whose digest is not that of the column `sha256`, where it is filled.

    Args:
        frame: with the columns `image` and `sha256`.
        found: digest of each row's image; "" where there is none to compare.
        table: name of the file.
    """
    actual = pd.Series(list(found), index=frame.index, dtype=object)
    wrong = frame.loc[(frame["sha256"] != "") & (actual != "") & (frame["sha256"] != actual), "image"]
    if len(wrong):
        remedy = "copy the files anew, or correct the column"
        yield ColumnProblem(table, "sha256", wrong, "differs from the file's digest", remedy)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
