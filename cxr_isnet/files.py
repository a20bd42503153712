"""Files that are either whole or absent."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
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


def file_slug(name: str) -> str:
    """A name that every file system takes: letters of any script, digits, '_-.' kept, all else '_'."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "unnamed"
