"""What a table's file holds, by its content: text with separators in some encoding, an Excel file, or Parquet.

What has several meanings is refused. Messages name lines and quote no cell, which may name a person.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import logging
import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxr_isnet.errors import InputError

if TYPE_CHECKING:
    from _csv import Reader

    import openpyxl

_log = logging.getLogger(__name__)

UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the libraries raise for a file that does not parse; openpyxl builds its objects from whatever attributes it
finds, and fails as they do."""

CURE = "Save it as 'CSV UTF-8', .xlsx or Parquet"

_SEPARATORS = ",;\t|"
_MAX_INFLATED = 2**30
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"}
_BOMS |= {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_FOREIGN = {b"\xd0\xcf\x11\xe0": "an Excel file of the old form (.xls) or with a password", b"%PDF": "a PDF"}
_FOREIGN |= {b"\xff\xd8\xff": "a JPEG picture", b"\x89PNG": "a PNG picture"}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_NOT_WESTERN = re.compile(
    r"[^\W\d_][^\w\s!-/:-@[-`{-~\u2018\u2019\u2013\u2014\u2026\xb7\xa0\xad][^\W\d_]"  # a symbol inside a word
    r"|[a-z][À-ÖØ-ÞŠŽŒŸ]"  # a capital behind a small letter
    r"|[À-ÖØ-öø-ÿ]{3}"  # a word of accented letters
)


def parse_table(content: bytes, path: Path) -> pd.DataFrame:
    """The cells of a table as its file has them, the names of the columns as they are written.

    Args:
        content: of the file; text and Parquet may be in a gzip, or alone in a zip.
        path: of the file, for errors.

    Raises:
        InputError: the content is no table, or has several meanings.
    """
    if content[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(content)) as stream:
            content = stream.read(_MAX_INFLATED + 1)
        if len(content) > _MAX_INFLATED:
            raise InputError(f"{path}: is larger than {_MAX_INFLATED // 2**30} GiB when unpacked. Unpack it")
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_INFLATED:
                raise InputError(f"{path}: is larger than {_MAX_INFLATED // 2**30} GiB when unpacked. Unpack it")
            if "xl/workbook.xml" in archive.namelist():
                return _sheet(content, archive, path)
            if not {"mimetype", "[Content_Types].xml"}.isdisjoint(archive.namelist()):
                raise InputError(f"{path}: not a readable table but an office document (.ods, .xlsb, .docx). {CURE}")
            members = [member for member in archive.namelist() if not member.startswith(("__MACOSX/", "."))]
            if len(members) != 1:
                raise InputError(f"{path}: an archive of {len(members)} files. Unpack it, and name the table")
            content = archive.read(members[0])
    if content[:4] == b"PAR1":
        return pd.read_parquet(io.BytesIO(content))
    for start, kind in _FOREIGN.items():
        if content.startswith(start):
            raise InputError(f"{path}: not a readable table but {kind}. {CURE}")
    return _delimited(_decoded(content, path), path)


def _decoded(content: bytes, path: Path) -> str:
    """Text in the encoding of its byte order mark, else UTF-8, else UTF-16, else Windows-1252 where it reads well."""
    for mark, encoding in _BOMS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    if b"\0" in content[:4096]:
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    if not text or _NOT_WESTERN.search(text):
        raise InputError(
            f"{path}: not a readable table: neither UTF-8 nor Windows-1252, and other encodings cannot be told apart. "
            f"{CURE}"
        )
    _log.warning("%s: is not UTF-8; its accented letters are read as Windows-1252 (Western Europe)", path)
    return text


def _delimited(text: str, path: Path) -> pd.DataFrame:
    text = text.removesuffix("\x1a")  # DOS ends files with it
    if re.search(r"[\0-\x08\x0e-\x1f]", text):
        raise InputError(f"{path}: not a readable table but binary data. {CURE}")
    if text.lstrip()[:9].lower().startswith(("<html", "<!doctype", "<table", "<?xml")):
        raise InputError(f"{path}: not a readable table but a web page or XML. {CURE}")
    said = re.match(r'"?sep=(.)"?\r?\n', text)  # Excel's own way to name the separator
    text = text[said.end() :] if said else text
    separator = said[1] if said else _separator(text, path)
    text = re.sub(rf'\A(?:[ "{re.escape(separator)}]*\r?\n)+', "", text)
    header = next(_records(text, separator), [])
    width, wrong = _widths(text, separator, len(header))
    if wrong:
        raise InputError(
            f"{path}: line {', '.join(map(str, wrong[:5]))}{' and more' if len(wrong) > 5 else ''} has more cells than "
            f"the first line has columns ({len(header)}): it is a title and not the header, or a {separator!r} stands "
            "inside a cell, as a decimal comma or in a text. Remove lines above the header; put such cells between "
            "quotes, or use another separator"
        )
    if not header:
        raise InputError(f"{path}: not a readable table: it is empty. Give a header and a row")
    if len(header) == 1 and re.search(r"[,;\t]", header[0]):
        raise InputError(
            f"{path}: not a readable table: each line is one quoted cell. Save it anew as CSV, or as .xlsx"
        )
    frame = pd.read_csv(
        io.BytesIO(text.encode()),
        sep=separator,
        header=None,
        names=list(range(width)),
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
        index_col=False,
    )
    if width > len(header):
        _log.warning("%s: rows have empty cells behind the last column of the header; they are left out", path)
    last = text[max(text.rfind("\n"), text.rfind("\r")) + 1 :]
    if last and len(next(_records(last, separator))) < len(header):
        _log.warning("%s: ends within a line of fewer cells than the header has: was it copied whole?", path)
    frame = frame.iloc[1:, : len(header)]
    if len(header) > 1 and len(frame) and (frame.iloc[:, 1:].isna() | (frame.iloc[:, 1:] == "")).all(axis=None):
        raise InputError(
            f"{path}: the header has {len(header)} columns, separated by {separator!r}, and no row has more than one "
            "cell. Use one separator in the whole table"
        )
    return frame.set_axis(header, axis="columns")


def _records(text: str, separator: str) -> Reader:
    """The `csv.reader` of a text: line by line, where a StringIO would hold it again with four bytes a character."""
    lines = (found[0] for found in _LINE.finditer(text))
    return csv.reader(lines, delimiter=separator, skipinitialspace=True)


def _widths(text: str, separator: str, columns: int) -> tuple[int, list[int]]:
    """Cells of the longest row, and the lines of the rows with text behind the last column."""
    width, wrong = columns, []
    reader = _records(text, separator)
    for row in reader:
        if len(row) > columns:
            width = max(width, len(row))
            if any(cell.strip() for cell in row[columns:]):
                wrong.append(reader.line_num)
    return width, wrong


def _separator(text: str, path: Path) -> str:
    """The separator that divides the header, and, where several do, all rows of the beginning into as many cells."""
    sample = text[: 2**16]
    fits: dict[str, bool] = {}
    for separator in _SEPARATORS:
        counts = [len(row) for row in _records(sample, separator) if row]
        counts = counts[:-1] if len(sample) < len(text) else counts
        if counts and counts[0] > 1:
            fits[separator] = len(set(counts)) == 1
    if len(fits) < 2:
        return next(iter(fits), ",")
    fitting = [separator for separator, fit in fits.items() if fit]
    if len(fitting) != 1:
        raise InputError(
            f"{path}: the cells may be separated by {' or by '.join(map(repr, fits))}. Use one of them only, and put "
            "cells that contain it between quotes"
        )
    return fitting[0]


def _sheet(content: bytes, archive: zipfile.ZipFile, path: Path) -> pd.DataFrame:
    """The only sheet of an Excel file that has cells; the values that Excel shows, not its formulas."""
    parts = list(map(archive.read, _parts(archive)))
    if any(b"<f>" in part or b"<f " in part for part in parts):
        _check_formulas(content, path)
    hidden = sum(bool(_FILLED.search(row[0])) for part in parts for row in _HIDDEN_ROW.finditer(part))
    if hidden:
        raise InputError(
            f"{path}: a filter or a person has hidden rows with cells, {hidden} in all; whether they belong to the "
            "table is not clear. Show them, or delete them"
        )
    import openpyxl  # not at the top: a registered model does without openpyxl

    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    sheets: dict[str, list[list[str]]] = {}
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # some writers state a wrong one
        rows = [[_shown(cell) for cell in row] for row in sheet.rows]
        if any(map(any, rows)):
            sheets[sheet.title] = rows
    if len(sheets) != 1:
        raise InputError(
            f"{path}: has {len(sheets)} sheets with cells ({', '.join(map(repr, sheets))}). Keep the sheet with the "
            "table, or save it as CSV"
        )
    rows = next(iter(sheets.values()))
    while not any(rows[0]):
        rows.pop(0)
    width = max(map(len, rows))
    header, *data = [row + [""] * (width - len(row)) for row in rows]
    return pd.DataFrame(data, columns=header, dtype="str")


def _parts(archive: zipfile.ZipFile) -> list[str]:
    return [name for name in archive.namelist() if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name)]


def _check_formulas(content: bytes, path: Path) -> None:
    """Refuses formulas whose values the program that wrote them has not stored."""
    import openpyxl  # as above

    values = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    for sheet in openpyxl.load_workbook(io.BytesIO(content), read_only=True).worksheets:
        for row, shown in zip(sheet.rows, values[sheet.title].rows, strict=True):
            for cell, value in zip(row, shown, strict=True):
                if cell.data_type == "f" and value.value is None:
                    raise InputError(
                        f"{path}: cell {cell.coordinate} of sheet {sheet.title!r} is a formula without a stored value. "
                        "Open the file in Excel and save it, or replace formulas by their values"
                    )


_HIDDEN_ROW = re.compile(rb"""<row\b[^>]*\shidden=["'](?:1|true)["'][^>]*(?<!/)>.*?</row>""", re.DOTALL)
_FILLED = re.compile(rb"<(?:v|t)\b[^>]*(?<!/)>")
_LITERAL = r"""[-() ]|\\.|"[^"]*\""""
_ZEROS = re.compile(rf"(?:(?:{_LITERAL})*0){{2,}}")


def _with_zeros(number: int, number_format: str) -> str:
    r"""A whole number in a format of zeros, with texts before and between, as `00000` or `00\-00\-00`; else "".

    Source: ECMA-376, 18.8.31 (number formats).
    """
    form = re.sub(r"\[[^\]]*\]", "", number_format.split(";")[0])
    if number < 0 or not _ZEROS.fullmatch(form):
        return ""
    pieces = re.findall(f"0|{_LITERAL}", form)
    zeros = pieces.count("0")
    digits = str(number).zfill(zeros)
    more = len(digits) - zeros + 1  # digits for which there is no zero stand at the first one
    each = iter((digits[:more], *digits[more:]))
    return "".join(next(each) if piece == "0" else piece.strip('"').removeprefix("\\") for piece in pieces)


def _shown(cell: openpyxl.cell.Cell) -> str:
    """A cell as Excel shows it where that matters: zeros in front, dates without an empty time."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = isinstance(value, int) or value.is_integer()
        if whole and (shown := _with_zeros(int(value), cell.number_format or "")):
            return shown
        return str(int(value)) if whole and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    return str(value).strip()
