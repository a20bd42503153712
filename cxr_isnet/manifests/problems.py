"""What is wrong with some cells of a column: collected by a check of manifests, raised by what must have them right."""

from collections.abc import Iterable
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
