"""Files that are either whole or absent, their names, and the folders that they are written to."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cxr_isnet.errors import InputError

DISCLAIMER = "Research software, not a medical device: not for diagnosis or treatment."


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when the block ends well and vanishes when it does
    not.

    Args:
        path: the file to make or to replace; its folder exists.

    Yields:
        A path in the same folder with the same suffix.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def output_folder(output: str, *, may_hold: bool = False) -> Path:
    """The path of a folder to write to; makes nothing.

    Args:
        output: as a user gave it.
        may_hold: it may hold something already.

    Raises:
        InputError: it is a file, or holds something that it may not.
    """
    path = Path(output)
    if path.is_file() or (not may_hold and path.is_dir() and any(path.iterdir())):
        raise InputError(f"output '{path}' is a file{'' if may_hold else ' or not empty'}: name another folder")
    return path


def file_slug(name: str) -> str:
    """A name that every file system takes: letters of any script, digits, '_-.' kept, all else '_'."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "unnamed"


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON that opens with the statement of what this software is not; whole or not at all.

    Raises:
        ValueError: `content` holds a NaN or an infinity, which JSON does not know.
    """
    with atomic_write(path) as partial:
        text = json.dumps({"disclaimer": DISCLAIMER, **content}, indent=2, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
