"""Tables as text: every cell a stripped string, "" where there is nothing."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError

TABLE_SUFFIXES = (".csv", ".parquet")
"""Of the tables that may be a manifest."""


def read_text_table(path: Path, *, separator: str = ",") -> pd.DataFrame:
    """Reads a Parquet table, or text of any suffix with a separator, also compressed.

    Args:
        path: the table; UTF-8, with or without a byte order mark.
        separator: between the cells of a text table.

    Returns:
        All cells as stripped text; the index counts data rows from 1.

    Raises:
        InputError: there is no such table, or it does not parse.
    """
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such table. Correct the path (working directory {Path.cwd()})"
        ) from error
    except (OSError, ValueError) as error:  # pandas and pyarrow: text that does not parse or decode
        raise InputError(f"{path}: not a readable table: {error}. Save it as UTF-8 CSV or Parquet") from error
    text = pd.DataFrame({str(name): _as_text(frame[name]) for name in frame.columns})
    return text.set_axis(range(1, len(text) + 1), axis="index")


def require_columns(frame: pd.DataFrame, path: Path, columns: tuple[str, ...]) -> None:
    """Checks that a publisher's table has the columns that are read.

    Args:
        frame: the table.
        path: of the table, for the error.
        columns: that are read.

    Raises:
        InputError: names the missing columns and those that the table has.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(map(repr, missing))} is missing; the table has "
            f"{', '.join(map(repr, frame.columns))}. Give the table as its publisher ships it"
        )


def rows_of(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    """The rows of a table, each as cells by column.

    Args:
        frame: as `read_text_table` returns it.
    """
    names = [str(name) for name in frame.columns]
    for cells in zip(*(frame[name] for name in frame.columns), strict=True):
        yield dict(zip(names, cells, strict=True))


def _as_text(column: "pd.Series[str]") -> "pd.Series[str]":
    return column.astype("str").where(column.notna(), "").str.strip()
