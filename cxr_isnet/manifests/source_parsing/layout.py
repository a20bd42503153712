"""Finding a publisher's layout in a folder, and the error where it is not found."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from cxr_isnet.errors import InputError

MADE_MASKS = "_masks"
"""Ending of the folder of masks that had to be made, beside the manifest; it has the layout of the set itself."""

MADE_IMAGES = "_rendered"
"""Ending of the folder of images that had to be made, likewise."""

_SHOWN = 12
_DEPTH = 4
"""Folders between the one that is named and the set: `wget -r` makes physionet.org/files/<set>/<version>."""

_FOLDERS = 1000
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".rar", ".7z")


def find_layout(root: Path, expects: tuple[str, ...], title: str, layout: str) -> Path:
    """The folder beneath which every pattern matches: `root`, or the nearest one below, as archives in archives make.

    Args:
        root: as the user gave it.
        expects: glob patterns; alternatives are separated by '|'.
        title: name of the data set, for the error.
        layout: the layout in words, for the error.

    Raises:
        InputError: names what was expected, what is missing and what was found.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder (working directory {Path.cwd()}). Correct the path")
    for folder in islice(_folders(root), _FOLDERS):
        if all(first_match(folder, pattern) for pattern in expects):
            return folder
    missing = [pattern.replace("|", " or ") for pattern in expects if not first_match(root, pattern)]
    archives = [name for name in listing(root, None).split(", ") if name.endswith(_ARCHIVES)]
    unpack = f" Unpack {', '.join(archives[:_SHOWN])}." if archives else ""
    raise InputError(
        f"{root}: not laid out as {title} is published. Missing: {', '.join(missing)}. "
        f"Found: {listing(root)}.{unpack} Expected:\n{layout}"
    )


def listing(folder: Path, shown: int | None = _SHOWN) -> str:
    """Names in a folder, for an error; those of folders end in '/'."""
    found = sorted(child.name + ("/" if child.is_dir() else "") for child in folder.iterdir())
    more = f" and {len(found) - shown} more" if shown is not None and len(found) > shown else ""
    return f"{', '.join(found[:shown]) or 'nothing'}{more}"


def _folders(root: Path) -> Iterator[Path]:
    """A folder and those beneath it, nearest first, without those of other programs and of `manifest build`."""
    level = [root]
    for _ in range(_DEPTH + 1):
        yield from level
        children = (child for folder in level for child in sorted(folder.iterdir()) if child.is_dir())
        level = list(islice((c for c in children if not (_is_made(c) or _is_hidden(c, c.parent))), _FOLDERS))


def _is_made(folder: Path) -> bool:
    """Whether a folder is named as those that `manifest build` makes."""
    return folder.name.endswith((MADE_MASKS, MADE_IMAGES))


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path is hidden beneath a folder, as macOS leaves `._a.png` on other disks, or in `__MACOSX`."""
    return any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)


def first_match(folder: Path, pattern: str) -> Path | None:
    """The first match of a pattern beneath a folder, None where there is none; alternatives are separated by '|'."""
    found = (match for alternative in pattern.split("|") for match in folder.glob(alternative))
    return next((match for match in found if not _is_hidden(match, folder)), None)


def only_match(folder: Path, pattern: str) -> Path:
    """The only match of a pattern; alternatives are separated by '|'.

    Raises:
        InputError: there is none, or there are several, as of two releases of a set.
    """
    found = list(matches(folder, pattern))
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
    raise InputError(f"{folder}: one file {pattern.replace('|', ' or ')} is needed; found {names}. Keep one release")


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by name; of several files with one name, the first in the order of paths."""
    return {path.name: path for path in sorted(paths, reverse=True)}


def matches(folder: Path, pattern: str) -> Iterator[Path]:
    """All matches of a pattern, sorted, hidden ones left out; alternatives are separated by '|'."""
    for alternative in pattern.split("|"):
        yield from sorted(path for path in folder.glob(alternative) if not _is_hidden(path, folder))
