"""What is wrong with some cells of a column: collected by a check of manifests, raised by what must have them right."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_isnet.errors import InputError

MAX_EXAMPLES = 5


@dataclass(frozen=True)
class ColumnProblem:
    """Cells of one column that break a rule.

    Attributes:
        table: name of the file.
        column: name of the column.
        values: the offending cells, at least one; the index names their rows: the numbers of the data rows from 1, or
            a `Place` each.
        problem: what is wrong with the cells, as "is empty".
        remedy: what to do about it.
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
    """A row where several tables are in play.

    Attributes:
        table: name of the file.
        row: number of the data row, from 1.
    """

    table: str
    row: int

    def __str__(self) -> str:
        """As errors name it."""
        return f"{self.row} of {self.table}"


def refuse(problems: Iterable[ColumnProblem]) -> None:
    """Raise the first problem, if there is one.

    Raises:
        InputError: tells it.
    """
    for problem in problems:
        raise InputError(str(problem))


def label_problems(frame: pd.DataFrame, table: str, classes: Sequence[str]) -> Iterator[ColumnProblem]:
    """Every label is one of `classes`."""
    unknown = frame.loc[~frame["label"].isin(list(classes)), "label"]
    if len(unknown):
        remedy = "correct the label, add it to the classes, or drop the rows"
        yield ColumnProblem(table, "label", unknown, f"is none of {', '.join(classes)}", remedy)


def missing_file_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """Every image and every mask that is named is a file."""
    for column in ("image", "mask"):
        paths = frame.loc[frame[column] != "", column]
        missing = paths[[not os.path.isfile(path) for path in paths]]
        if len(missing):
            remedy = "correct the path (it is relative to the table's folder), or drop the row"
            yield ColumnProblem(table, column, missing, "names a file that does not exist", remedy)


def repeated_image_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """No image is listed twice."""
    images = frame.loc[frame["image"] != "", "image"]
    again = images[images.duplicated(keep=False)].sort_values(kind="stable")
    if len(again):
        yield ColumnProblem(table, "image", again, "lists the same file more than once", "keep one row per image")


def patient_overlap_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """All images of a patient, known by site and patient id, are in one split."""
    splits = frame[["site", "patient_id", "split"]].drop_duplicates()
    torn = splits[splits.duplicated(["site", "patient_id"], keep=False)].sort_values(["site", "patient_id"])
    if len(torn):
        remedy = "put all images of a patient into one split, or leave the whole column empty to have it filled"
        values = torn["patient_id"] + " in split '" + torn["split"] + "'"
        yield ColumnProblem(table, "split", values, "puts one patient into two splits", remedy)
