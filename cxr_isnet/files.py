"""Atomic writes, locks, CSV tables, file names, output folders, and text that drives no terminal."""

import csv
import itertools
import json
import logging
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_isnet.errors import InputError, is_of_the_disk

LOCK_NAME = ".lock"
_UNFINISHED, _COMPLETE = ".unfinished", ".complete"
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
DISCLAIMER = "Research software, not a medical device: not for diagnosis or treatment."


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block succeeds and is removed when it fails.

    Args:
        path: the file to create or replace; its folder exists.

    Yields:
        A path in the same folder with the same suffix, to write to.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename in (str(partial), partial) or (error.filename is None and is_of_the_disk(error)):
            raise unwritable(path, error) from error
        raise
    finally:
        with suppress(OSError):  # no folder: nothing was written
            partial.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> InputError:
    """The error of an output that cannot be written."""
    return InputError(f"{path}: cannot be written: {error.strerror}. Free some space, or correct the permissions")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV table, whole or not at all; the one writer for every table that people open in a spreadsheet.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, which `without_apostrophe` removes.

    Args:
        path: the file; its folder exists.
        columns: names.
        rows: cells in the order of the columns; None and NaN are empty cells. Names of files need not be Unicode.
    """
    with (
        atomic_write(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        plain = csv.writer(stream, lineterminator="\n")
        quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in itertools.chain([columns], rows):
            cells = [_cell(value) for value in row]
            returns = any(isinstance(cell, str) and "\r" in cell for cell in cells)  # which `plain` does not quote
            (quoted if returns else plain).writerow(cells)


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) and not _is_number(value) else value
    return "" if value is None or value != value else value  # NaN alone differs from itself


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def without_apostrophe(cell: str) -> str:
    """The text that `write_csv` was given, from the cell that it wrote."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


@contextmanager
def exclusive(path: Path, *, beside: bool = False) -> Iterator[None]:
    """Keeps every other process that asks for the same path out; the system frees it when this process is killed.

    The lock is the file `.lock` in a folder, and `.<name>.lock` beside anything else. It stays there, as removing it
    would let two processes in.

    Args:
        path: an existing folder, or a file that need not exist.
        beside: puts a folder's lock beside it too: for one that is only made when the work has been checked.

    Raises:
        InputError: another process holds it, or the folder cannot be written to.
    """
    inside = path.is_dir() and not beside
    lock = FileLock(path / LOCK_NAME if inside else path.with_name(f".{path.name}{LOCK_NAME}"))
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"{path}: another process is writing to it. Wait for that one to end, or name another output"
        ) from error
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what a process that was killed left: its lock, and unfinished results."""
    return all(entry.name in (LOCK_NAME, _UNFINISHED) for entry in folder.iterdir())


def remove_partial_files(folder: Path) -> None:
    """Removes what killed processes were writing in a folder or below it; the caller has the lock of it."""
    for path in folder.rglob(".*.partial*"):
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(output: str) -> Iterator[Path]:
    """A folder to fill, whose content is that of `output` when the block succeeds: all of it, or nothing.

    Until then it lies in `<output>/.unfinished`, so that a process that is killed leaves a folder that counts as empty.

    Args:
        output: as the user gave it; is made where it is missing.

    Yields:
        An empty folder.

    Raises:
        InputError: it is a file, not empty or not writable, or another process writes to it.
    """
    path = output_folder(output)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with exclusive(path):
            if not is_empty(path):  # another process has been faster
                raise InputError(f"output '{path}' is not empty: name another folder")
            shutil.rmtree(path / _UNFINISHED, ignore_errors=True)
            (path / _UNFINISHED).mkdir()
            try:
                yield path / _UNFINISHED
                os.replace(path / _UNFINISHED, path / _COMPLETE)  # from here on a kill loses nothing
                _move_out_of(path / _COMPLETE)
                (path / LOCK_NAME).unlink()  # who has opened it finds the folder full
            finally:
                shutil.rmtree(path / _UNFINISHED, ignore_errors=True)
    except OSError as error:
        if is_of_the_disk(error):
            raise unwritable(path, error) from error
        raise
    finally:
        if missing and path.is_dir() and is_empty(path):  # refused, or failed: as if it had never been asked for
            (path / LOCK_NAME).unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it by now
                for folder in missing:
                    folder.rmdir()


def _move_out_of(folder: Path) -> None:
    """Moves what a folder holds one up, and removes it."""
    for entry in folder.iterdir():
        os.replace(entry, folder.parent / entry.name)
    folder.rmdir()


def output_folder(output: str, *, may_hold: bool = False) -> Path:
    """The path of a folder to write to; creates nothing, and ends what a process was killed at the end of.

    Args:
        output: as the user gave it.
        may_hold: whether it may hold files already.

    Raises:
        InputError: it is a file, or not empty although it must be.
    """
    path = Path(output)
    if (path / _COMPLETE).is_dir():
        with suppress(InputError), exclusive(path):  # else a process that lives is about to end it
            _move_out_of(path / _COMPLETE)
    if path.is_symlink() and not path.exists():
        raise InputError(f"output '{path}' is a link that leads nowhere: correct it, or name another folder")
    if path.is_file() or (not may_hold and path.is_dir() and not is_empty(path)):
        raise InputError(f"output '{path}' is a file{'' if may_hold else ' or not empty'}: name another folder")
    return path


def without_controls(text: str) -> str:
    """A text whose control characters are spelt out: names from files and tables must not drive a terminal."""
    return "".join(mark.encode("unicode_escape").decode() if _is_control(mark) else mark for mark in text)


def _is_control(mark: str) -> bool:
    return mark not in "\n\t" and unicodedata.category(mark) in ("Cc", "Cf", "Cs")


class SafeFormatter(logging.Formatter):
    """A formatter of log lines, for the terminal or a file that is shown on one, `without_controls`."""

    def format(self, record: logging.LogRecord) -> str:
        return without_controls(super().format(record))


def file_slug(name: str) -> str:
    """A name that is valid on every file system: letters of any script, digits and '_-.' kept, others '_'."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "unnamed"


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes JSON, whole or not at all, whose first key is the disclaimer.

    Args:
        path: the file; its folder exists.
        content: what JSON can hold.

    Raises:
        ValueError: `content` holds a NaN or an infinity, which JSON cannot hold.
    """
    with atomic_write(path) as partial:
        text = json.dumps({"disclaimer": DISCLAIMER, **content}, indent=2, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
