"""Finding a publisher's layout in a folder, and saying what is wrong when it is not there."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cxr_isnet.errors import InputError

_SHOWN = 12


def locate(root: Path, expects: tuple[str, ...], title: str, layout: str) -> Path:
    """The folder beneath which every pattern matches: `root`, or one of its subfolders.

    Args:
        root: what the user gave.
        expects: glob patterns; alternatives are divided by '|'.
        title: name of the data set, for the error.
        layout: the layout in words, for the error.

    Raises:
        InputError: says what was expected, what is missing and what was found.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder (working directory {Path.cwd()}). Correct the path")
    children = sorted(child for child in root.iterdir() if child.is_dir())
    for folder in (root, *children):
        if all(first(folder, pattern) for pattern in expects):
            return folder
    missing = [pattern.replace("|", " or ") for pattern in expects if not first(root, pattern)]
    found = sorted(child.name + ("/" if child.is_dir() else "") for child in root.iterdir())
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise InputError(
        f"{root}: not laid out as {title} is published. Missing: {', '.join(missing)}. "
        f"Found: {', '.join(found[:_SHOWN]) or 'nothing'}{more}. Expected:\n{layout}"
    )


def first(folder: Path, pattern: str) -> Path | None:
    """The first match of a pattern beneath a folder, None where there is none; alternatives are divided by '|'."""
    matches = (match for alternative in pattern.split("|") for match in folder.glob(alternative))
    return next(matches, None)


def require(folder: Path, pattern: str) -> Path:
    """The match of a pattern that `locate` has found before."""
    match = first(folder, pattern)
    if match is None:
        raise InputError(f"{folder}: {pattern.replace('|', ' or ')} is gone. Do not change the folder meanwhile")
    return match


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names; of two files of a name, the first in the alphabet of paths."""
    return {path.name: path for path in sorted(paths, reverse=True)}


def matches(folder: Path, pattern: str) -> Iterator[Path]:
    """All matches of a pattern, sorted; alternatives are divided by '|'."""
    for alternative in pattern.split("|"):
        yield from sorted(folder.glob(alternative))
