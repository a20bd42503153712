"""Problems of a manifest's cells, collected by checks and raised by readers, and the rules across rows."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.tables import folded_name

MAX_EXAMPLES = 5


@dataclass(frozen=True)
class ColumnProblem:
    """Cells of one column that break a rule.

    Attributes:
        table: name of the file.
        column: name of the column.
        values: the offending cells, at least one; their index is the number of the data row from 1, or a `Place`.
        problem: what is wrong with the cells, as "is empty".
        remedy: how to correct them.
    """

    table: str
    column: str
    values: "pd.Series"
    problem: str
    remedy: str

    def __str__(self) -> str:
        """The first cells, with row and value, and the remedy."""
        shown = ", ".join(f"row {row}: {value!r}" for row, value in self.values.head(MAX_EXAMPLES).items())
        more = f" and {len(self.values) - MAX_EXAMPLES} more" if len(self.values) > MAX_EXAMPLES else ""
        remedy = f"{self.remedy[:1].upper()}{self.remedy[1:]}"
        return f"{self.table}: column {self.column!r} {self.problem} ({shown}{more}). {remedy}"


@dataclass(frozen=True, order=True)
class Place:
    """A row of one of several tables.

    Attributes:
        table: name of the file.
        row: number of the data row, from 1.
    """

    table: str
    row: int

    def __str__(self) -> str:
        """The row as error messages name it."""
        return f"{self.row} of {self.table}"


def raise_first(problems: Iterable[ColumnProblem]) -> None:
    """Raises the first problem, if there is one.

    Args:
        problems: consumed up to the first.

    Raises:
        InputError: with the text of the problem.
    """
    for problem in problems:
        raise InputError(str(problem))


def label_problems(frame: pd.DataFrame, table: str, classes: Sequence[str]) -> Iterator[ColumnProblem]:
    """The labels that are none of `classes`.

    Args:
        frame: as `inspect_manifest` returns it.
        table: name of the file.
        classes: labels that are allowed.
    """
    unknown = frame.loc[~frame["label"].isin(list(classes)), "label"]
    if len(unknown):
        remedy = "correct the label, add it to the classes, or drop the rows"
        yield ColumnProblem(table, "label", unknown, f"is none of {', '.join(classes)}", remedy)


def spelling_problems(frame: pd.DataFrame, table: str, column: str = "label") -> Iterator[ColumnProblem]:
    """The names that differ from another in capitals, blanks, '-' or '_' only, as `COVID` from `covid`.

    Args:
        frame: as `inspect_manifest` or `join_tables` returns it.
        table: name of the file or files.
        column: of the names, `label` or `site`.
    """
    spellings: dict[str, list[str]] = {}
    for name in frame[column].unique():
        spellings.setdefault(folded_name(name), []).append(name)
    several = [name for names in spellings.values() if len(names) > 1 for name in names]
    unsure = frame.loc[frame[column].isin(several), column].drop_duplicates()
    if len(unsure):
        remedy = "give each one spelling, in every table"
        yield ColumnProblem(table, column, unsure, "has one name in several spellings", remedy)


def missing_file_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """The images and masks that do not exist.

    Args:
        frame: as `inspect_manifest` returns it.
        table: name of the file.
    """
    for column in ("image", "mask"):
        paths = frame.loc[frame[column] != "", column]
        missing = paths[[not os.path.isfile(path) for path in paths]]
        if len(missing):
            remedy = "correct the path (it is relative to the table's folder), or drop the row"
            yield ColumnProblem(table, column, missing, "names a file that does not exist", remedy)


def repeated_image_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """The images that are listed more than once.

    Args:
        frame: as `inspect_manifest` or `join_tables` returns it.
        table: name of the file or files.
    """
    images = frame.loc[frame["image"] != "", "image"]
    repeated = images[images.duplicated(keep=False)].sort_values(kind="stable")
    if len(repeated):
        yield ColumnProblem(table, "image", repeated, "lists the same file more than once", "keep one row per image")


def patient_overlap_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """The patients, identified by site and patient id, who are in more than one split: leakage.

    Args:
        frame: as `inspect_manifest` or `join_tables` returns it.
        table: name of the file or files.
    """
    splits = frame[["site", "patient_id", "split"]].drop_duplicates()
    overlap = splits[splits.duplicated(["site", "patient_id"], keep=False)].sort_values(["site", "patient_id"])
    if len(overlap):
        remedy = "put all images of a patient into one split, or leave the whole column empty to have it filled"
        values = overlap["patient_id"] + " in split '" + overlap["split"] + "'"
        yield ColumnProblem(table, "split", values, "puts one patient into two splits", remedy)
