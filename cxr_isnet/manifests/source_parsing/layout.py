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
    found = (match for alternative in pattern.split("|") for match in folder.glob(alternative))
    return next(found, None)


def the_one(folder: Path, pattern: str) -> Path:
    """The only match of a pattern; alternatives are divided by '|'.

    Raises:
        InputError: there is none, or there are several, as of two releases of a set.
    """
    found = list(matches(folder, pattern))
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
    raise InputError(f"{folder}: one file {pattern.replace('|', ' or ')} is needed; found {names}. Keep one release")


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names; of two files of a name, the first in the alphabet of paths."""
    return {path.name: path for path in sorted(paths, reverse=True)}


def matches(folder: Path, pattern: str) -> Iterator[Path]:
    """All matches of a pattern, sorted; alternatives are divided by '|'."""
    for alternative in pattern.split("|"):
        yield from sorted(folder.glob(alternative))
