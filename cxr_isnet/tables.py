"""Tables as people have them, read as text: every cell a stripped string, "" where there is nothing.

The one reader of manifests, predictions and labels. It looks at a file's content, not at its name, repairs what has
one meaning only, and refuses what has several. Its messages name columns and rows and quote no cell: one may name a
person.
"""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.files import atomic_write, without_apostrophe, write_csv
from cxr_isnet.table_formats import CURE, UNREADABLE, parse_table

WRITTEN_SUFFIXES = (".csv", ".parquet")
"""Of the tables that can be written."""

TABLE_SUFFIXES = (*WRITTEN_SUFFIXES, ".tsv", ".xlsx")
"""By which an input is known as a table; `read_table` itself looks at the content."""

_EMPTY = frozenset(
    {"nan", "NaN", "<NA>", "NaT", "#N/A", "#NV", "#N/D", "#NAME?", "#REF!", "#VALUE!", "#WERT!", "#DIV/0!"}
)
ROUNDED = re.compile(r"\d(?:[.,]\d+)?E\+\d{2,}", re.IGNORECASE)
"""A number of more digits than Excel shows, 1234567890123 as 1,23457E+12, or holds: as text it has lost them."""

_LINES_OF_A_TITLE = 20

_UNSEEN = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + string.whitespace + "\xa0"
"""Marks of no width, which come along when text is copied from a web page, and blanks."""

_TEXT_FORMULA = re.compile(r'\A="([^"=]*)"\Z')
"""As programs write text that Excel is not to take for a number."""

_DECIMALS = re.compile(r"(?:\.0+|,0{1,2}|,0{4,})$")  # "1,000" may be a thousand
_WHOLE = re.compile(rf"-?(?:0|[1-9]\d*)(?:{_DECIMALS.pattern})?")


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table: text with a separator (also gzip or zip), an Excel file (.xlsx) or Parquet.

    Text may be UTF-8, UTF-16 or Windows-1252, with `,`, `;`, tab or `|` between its cells. Header and cells are in
    Unicode's composed form (NFC). Rows and columns without any cell are left out; a whole number that pandas or Excel
    wrote as "12.0" in a column of whole numbers is "12"; leading zeros stay, also those that an Excel format shows.

    Args:
        path: the table.

    Returns:
        All cells as stripped text; the index counts data rows from 1, as a spreadsheet shows them below the header.

    Raises:
        InputError: there is no such table, it does not parse, or it can be read in more than one way.

    Example:
        >>> read_table(Path("hospital_a/manifest.csv"))["site"].unique().tolist()
        ['Alder']
    """
    try:
        frame = parse_table(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such table. Correct the path (working directory {Path.cwd()})"
        ) from error
    except InputError:
        raise
    except UNREADABLE as error:
        why = str(error) if isinstance(error, pd.errors.ParserError) else type(error).__name__
        raise InputError(f"{path}: not a readable table ({why}). {CURE}") from error
    return _cleaned(frame, path)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table, whole or not at all: Parquet by its suffix, else CSV as `write_csv` does.

    Args:
        frame: of text and numbers; floats keep all their digits.
        path: the file; its folder exists.
    """
    if path.suffix.lower() == ".parquet":
        with atomic_write(path) as partial:
            frame.to_parquet(partial, index=False)
    else:
        write_csv(path, [str(name) for name in frame.columns], frame.itertuples(index=False, name=None))


def check_replaceable(path: Path, columns: Iterable[str], kind: str) -> None:
    """Checks that a table that is about to be replaced is of the kind that replaces it, and not, say, what was read.

    Args:
        path: the table to write; need not exist.
        columns: that every table of the kind has.
        kind: as "a manifest", for the error.

    Raises:
        InputError: a file of another kind is there.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    wanted = list(columns)
    with suppress(*UNREADABLE):
        if _first_bytes(path) == b"PAR1":
            pd.read_parquet(path, columns=wanted)
            return
        if set(wanted) <= set(pd.read_csv(path, nrows=0)):
            return
    raise InputError(f"{path}: is there already, and is not {kind}, which would replace it. Name another file")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4)


def match_columns(frame: pd.DataFrame, known: Iterable[str], path: str | Path) -> pd.DataFrame:
    """A table whose columns have the names that are known, where they differ in capitals, blanks, '_' and '-' only.

    Args:
        frame: as `read_table` returns it.
        known: names, as "patient_id", which "Patient ID" and "PatientID" are taken for.
        path: of the table, for the error.

    Raises:
        InputError: two columns are taken for the same name, or the names stand in a row below a title.
    """
    exact = dict.fromkeys(known)
    by_key = {_key(name): name for name in exact}
    _check_no_title(frame, by_key, path)
    names = [name if name in exact else by_key.get(_key(name), name) for name in frame.columns]
    for name in exact:
        theirs = [column for column, ours in zip(frame.columns, names, strict=True) if ours == name]
        if len(theirs) > 1:
            raise InputError(f"{path}: columns {', '.join(map(repr, theirs))} may each be {name!r}. Rename all but one")
    return frame.set_axis(names, axis="columns")


def folded_name(name: str) -> str:
    """A class or site without what two spellings of one name differ in: capitals, blanks, '-' and '_' between words.

    Args:
        name: cell of a table.
    """
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", name.casefold())


def _check_no_title(frame: pd.DataFrame, by_key: Mapping[str, str], path: str | Path) -> None:
    if any(_key(name) in by_key for name in frame.columns):
        return
    first = frame.iloc[:_LINES_OF_A_TITLE]
    for number, cells in zip(first.index, first.to_numpy().tolist(), strict=True):
        if sum(_key(str(cell)) in by_key for cell in cells) > 1:
            raise InputError(
                f"{path}: the names of columns stand in row {number} below the first line, which is a title then. "
                "Remove the lines above them"
            )


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
        frame: as `read_table` returns it.
    """
    names = [str(name) for name in frame.columns]
    for cells in zip(*(frame[name] for name in frame.columns), strict=True):
        yield dict(zip(names, cells, strict=True))


def to_numbers(column: pd.Series, path: str | Path) -> pd.Series:
    """A column as float64, with a decimal point or a decimal comma; NaN where a cell is no number.

    Args:
        column: numbers or text; its name is that of the column.
        path: of the table, for the error.

    Raises:
        InputError: some cells have a decimal comma and others a point.
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(np.float64)
    text = column.astype("str").where(column.notna(), "")
    commas, points = text.str.contains(",", regex=False), text.str.contains(".", regex=False)
    if commas.any() and points.any():
        first, second = column.index[commas][0], column.index[points][0]
        raise InputError(
            f"{path}: column {str(column.name)!r} has a comma in row {first} and a point in row {second}: which "
            "begins the decimals is not clear. Write all numbers in one way, without separators of thousands"
        )
    return pd.to_numeric(text.str.replace(",", ".", regex=False), errors="coerce").astype(np.float64)


def find_file(root: Path, cell: str) -> str:
    """The file that a cell names, however its name is spelt on the disk.

    Unicode has two forms of letters as 'ä' (macOS writes the decomposed one), and Windows writes `\\` between folders.

    Args:
        root: folder that relative paths start from.
        cell: path, as a table has it.

    Returns:
        The absolute path; the one that the cell says where there is no such file.
    """
    said = os.path.abspath(root / cell)
    if (cell.isascii() and "\\" not in cell) or os.path.exists(said):
        return said
    for name in (cell, cell.replace("\\", "/")):
        path = Path(os.path.abspath(root / name))
        found = Path(path.anchor)
        for part in path.parts[1:]:
            found = _entry(found, part)
        if found.exists():
            return str(found)
    return said


def _entry(folder: Path, name: str) -> Path:
    if name.isascii() or (folder / name).exists() or not folder.is_dir():
        return folder / name
    composed = unicodedata.normalize("NFC", name)
    same = (entry for entry in os.listdir(folder) if unicodedata.normalize("NFC", entry) == composed)
    return folder / next(same, name)


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _cleaned(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Names and cells stripped and composed, empty rows and columns left out."""
    columns: list[pd.Series] = []
    names = [unicodedata.normalize("NFC", without_apostrophe(" ".join(str(name).split()))) for name in frame.columns]
    for position, name in enumerate(names):
        cells = _text(frame.iloc[:, position])
        if name or (cells != "").any():
            columns.append(cells.rename(name or f"unnamed {position + 1}"))
    twice = sorted({str(a.name) for i, a in enumerate(columns) for b in columns[:i] if a.name == b.name})
    if twice:
        raise InputError(f"{path}: column {', '.join(map(repr, twice))} is there twice. Remove or rename one of them")
    text = pd.concat(columns, axis="columns") if columns else pd.DataFrame()
    text = text.set_axis(range(1, len(text) + 1), axis="index")
    return text[(text != "").any(axis="columns")] if len(columns) else text


def _text(column: pd.Series) -> pd.Series:
    cells = [cell.strip() for cell in column.astype("str").where(column.notna(), "")]
    if not all(map(str.isascii, cells)):
        cells = [unicodedata.normalize("NFC", cell.strip(_UNSEEN)) for cell in cells]
    if any(cell.startswith('="') for cell in cells):
        cells = [_TEXT_FORMULA.sub(r"\1", cell) for cell in cells]
    cells = ["" if cell in _EMPTY else cell for cell in cells]
    if any(cell.startswith("'") for cell in cells):
        cells = list(map(without_apostrophe, cells))
    filled = [cell for cell in cells if cell]
    if filled and all(map(_WHOLE.fullmatch, filled)):
        cells = [_DECIMALS.sub("", cell) for cell in cells]
    return pd.Series(cells, index=column.index, dtype="str")
