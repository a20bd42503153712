"""Atomic writes, locks, file names, and output folders."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_isnet.errors import InputError

LOCK_NAME = ".lock"
DISCLAIMER = "Research software, not a medical device: not for diagnosis or treatment."


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block succeeds and is removed when it fails.

    Args:
        path: the file to create or replace; its folder exists.

    Yields:
        A path in the same folder with the same suffix, to write to.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keeps every other process that asks for the same path out; the system frees it when this process is killed.

    The lock is the file `.lock` in a folder, and `.<name>.lock` beside anything else. It stays there, as removing it
    would let two processes in.

    Args:
        path: an existing folder, or a file that need not exist.

    Raises:
        InputError: another process holds it, or the folder cannot be written to.
    """
    lock = FileLock(path / LOCK_NAME if path.is_dir() else path.with_name(f".{path.name}{LOCK_NAME}"))
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"{path}: another process is writing to it. Wait for that one to end, or name another output"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written to ({error.strerror}). Correct its permissions") from error
    try:
        yield
    finally:
        lock.release()


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but the lock that a process left."""
    return all(entry.name == LOCK_NAME for entry in folder.iterdir())


def output_folder(output: str, *, may_hold: bool = False) -> Path:
    """The path of a folder to write to; creates nothing.

    Args:
        output: as the user gave it.
        may_hold: whether it may hold files already.

    Raises:
        InputError: it is a file, or not empty although it must be.
    """
    path = Path(output)
    if path.is_file() or (not may_hold and path.is_dir() and not is_empty(path)):
        raise InputError(f"output '{path}' is a file{'' if may_hold else ' or not empty'}: name another folder")
    return path


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
