"""The files of a folder in a fixed order, with the members of zip archives and the entries of DICOMDIRs."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import RejectedFile, RejectionReason, open_header
from cxr_isnet.intake.process_pool import ProcessPool, TaskFailure

_DICOMDIR_NAME = "DICOMDIR"
_ARCHIVE_SUFFIX = ".zip"
_LISTING_SECONDS = 60.0
_LISTING_BYTES = 2**29
"""What the list of one archive or DICOMDIR may cost: an archive of a million members takes half of it."""

_READ_APART = "The files that it names are read by themselves"


@dataclass(frozen=True)
class Rejected:
    """The outcome of a rejected file.

    Attributes:
        reason: one of the closed set.
        detail: the tag, the value seen and the remedy, free of identity.
    """

    reason: RejectionReason
    detail: str

    @classmethod
    def of(cls, rejected: RejectedFile) -> Rejected:
        """The outcome of what the imaging package raises."""
        return cls(rejected.reason, rejected.detail)

    @classmethod
    def of_failure(cls, failure: TaskFailure) -> Rejected:
        """The outcome of a file whose process failed."""
        if failure.over_limit:
            return cls(RejectionReason.LIMIT, f"{failure.detail}. Raise the limits, or drop the file")
        return cls(RejectionReason.CRASHED, failure.detail)


@dataclass(frozen=True)
class FoundFile:
    """One file, or one member of an archive.

    Attributes:
        name: path from the root, with `/`, and `!` before a member of an archive. May hold a person's name.
        path: of the file or of the archive.
        member: index in the archive's list of members; None for a plain file.
        stamp: size and modification time, or size and CRC of a member; changes when the content does.
        rejection: why it is rejected without being opened; None if it must be opened.
        unlisted: whether it is a folder or an archive whose files could not be listed.
    """

    name: str
    path: Path
    member: int | None = None
    stamp: str = ""
    rejection: Rejected | None = None
    unlisted: bool = False


def resolved_root(root: Path) -> Path:
    """The folder that names are relative to, or the file that is taken in, without links; a DICOMDIR is its folder.

    Raises:
        InputError: there is no such folder or file.
    """
    try:
        found = root.resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise InputError(f"root '{root}' cannot be followed. Correct the path") from error
    if found.is_file() and found.name.upper() == _DICOMDIR_NAME:
        return found.parent
    if not found.is_dir() and not found.is_file():
        raise InputError(f"root '{root}' is neither a folder nor a file. Correct the path")
    return found


def find_files(root: Path, *, follow_links: bool = False) -> Iterator[FoundFile]:
    """Walks a folder, or lists one file, archive or DICOMDIR.

    Archives and DICOMDIRs are parsed in a process of its own, so that none of them can stop the walk. Memory grows with
    the largest single folder or archive, not with the tree.

    Args:
        root: folder or file. A DICOMDIR stands for its folder.
        follow_links: Whether links to folders, and links to files outside root, are followed.

    Yields:
        Every file and member once, in the order of their names.

    Raises:
        InputError: there is no such folder or file.
    """
    root = resolved_root(root)
    with _ContainerLister() as lister:
        if root.is_dir():
            yield from _walk(root, follow_links, lister)
        else:
            yield from _list_file(root, root.name, lister)


def _walk(root: Path, follow_links: bool, lister: _ContainerLister) -> Iterator[FoundFile]:
    """The files below a folder; no recursion, as folders may be nested deeper than Python's stack."""
    folders: list[tuple[Path, str, Iterator[os.DirEntry[str]]]] = []
    inside: list[str] = []  # the folders from the root to here without links, to tell a link that leads back

    def enter(folder: Path, prefix: str) -> Iterator[FoundFile]:
        try:
            with os.scandir(folder) as entries:
                listed = iter(sorted(entries, key=lambda entry: entry.name))
        except OSError as error:
            rejection = Rejected.of(RejectedFile.unreadable(error, "folder"))
            yield FoundFile(prefix or ".", folder, rejection=rejection, unlisted=True)
            return
        folders.append((folder, prefix, listed))
        inside.append(os.path.realpath(folder) if follow_links else "")

    yield from enter(root, "")
    while folders:
        folder, prefix, entries = folders[-1]
        entry = next(entries, None)
        if entry is None:
            folders.pop()
            inside.pop()
            continue
        path, name = folder / entry.name, prefix + entry.name
        if entry.is_symlink() and (refused := _refused_link(path, root, follow_links, inside)) is not None:
            yield FoundFile(name, path, rejection=refused)
        elif _is_folder(entry, follow_links):
            yield from enter(path, f"{name}/")
        else:
            yield from _list_file(path, name, lister)


def _is_folder(entry: os.DirEntry[str], follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:
        return False  # why it cannot be read is found again where files are


def _refused_link(path: Path, root: Path, follow_links: bool, inside: list[str]) -> Rejected | None:
    """Why a link is not followed; None where it is, or leads nowhere."""
    target = os.path.realpath(path)
    if os.path.isdir(target):
        if target in inside:
            return Rejected(RejectionReason.LINK, "a link to a folder that holds it. Remove it")
        kind = "to a folder"
    else:
        kind = "out of the root"
        if Path(target).is_relative_to(root) or not os.path.exists(target):
            return None
    if follow_links:
        return None
    return Rejected(RejectionReason.LINK, f"a link {kind}, not followed. Take its target in, or set follow_links")


def _list_file(path: Path, name: str, lister: _ContainerLister) -> Iterator[FoundFile]:
    try:
        status = path.stat()
    except OSError as error:
        yield FoundFile(name, path, rejection=Rejected.of(RejectedFile.unreadable(error)))
        return
    found = FoundFile(name, path, stamp=f"{status.st_size}:{status.st_mtime_ns}")
    if not stat.S_ISREG(status.st_mode):
        yield replace(found, rejection=Rejected(RejectionReason.NOT_DICOM, "not a regular file. Remove it"))
    elif path.name.upper() == _DICOMDIR_NAME:
        yield from lister.files_of(found, _list_dicomdir)
    elif path.suffix.lower() == _ARCHIVE_SUFFIX:
        yield from lister.files_of(found, _list_archive)
    else:
        yield found


_Listing = Callable[[FoundFile], list[FoundFile]]


class _ContainerLister:
    """Lists archives and DICOMDIRs in a process with limits, started when the first of them is met."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._pool: ProcessPool[tuple[_Listing, FoundFile], list[FoundFile]] | None = None

    def __enter__(self) -> _ContainerLister:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def files_of(self, container: FoundFile, listing: _Listing) -> Iterator[FoundFile]:
        """The files that a container names, or the container with the reason why it cannot be listed."""
        if self._pool is None:
            pool = ProcessPool[tuple[_Listing, FoundFile], list[FoundFile]](
                _list_container, 1, _LISTING_SECONDS, _LISTING_BYTES
            )
            self._pool = self._stack.enter_context(pool)
        for _, files in self._pool.results([(listing, container)]):
            if isinstance(files, TaskFailure):
                unlisted = listing is _list_archive
                files = [replace(container, rejection=Rejected.of_failure(files), unlisted=unlisted)]
            yield from files


def _list_container(task: tuple[_Listing, FoundFile]) -> list[FoundFile]:
    listing, container = task
    return listing(container)


def _list_archive(container: FoundFile) -> list[FoundFile]:
    try:
        with zipfile.ZipFile(container.path) as archive:
            found = [(_with_slashes(info.filename), i, info) for i, info in enumerate(archive.infolist())]
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile) as error:
        detail = f"not a readable zip archive ({type(error).__name__}). Copy it anew from its source"
        return [replace(container, rejection=Rejected(RejectionReason.ARCHIVE, detail), unlisted=True)]
    return [
        FoundFile(
            f"{container.name}!{name}",
            container.path,
            i,
            f"{info.file_size}:{info.CRC:08x}",
            _member_rejection(name.rpartition("/")[2], info),
        )
        for name, i, info in sorted(found, key=lambda member: member[:2])
        if not name.endswith("/")
    ]


def _with_slashes(name: str) -> str:
    """A member's name with `/`, also where the archive has `\\`, as some Windows programs write (APPNOTE, 4.4.17.1)."""
    return name.replace("\\", "/")


def _member_rejection(name: str, info: zipfile.ZipInfo) -> Rejected | None:
    if name.upper() == _DICOMDIR_NAME:
        return Rejected(RejectionReason.INDEX, f"a DICOMDIR: an index, not an image. {_READ_APART}")
    if name.lower().endswith(_ARCHIVE_SUFFIX):
        return Rejected(RejectionReason.ARCHIVE, "an archive within an archive. Unpack the outer one")
    if info.flag_bits & 1:
        return Rejected(RejectionReason.ARCHIVE, "an encrypted member of an archive. Unpack it with its password")
    return None


def _list_dicomdir(container: FoundFile) -> list[FoundFile]:
    """The DICOMDIR, and the files that it names but that do not exist; the walk finds those that do."""
    try:
        with open_header(container.path) as header:
            named = {item.texts("ReferencedFileID") for item in header.items("DirectoryRecordSequence")} - {()}
    except RejectedFile as rejected:
        return [replace(container, rejection=Rejected.of(rejected))]
    index = Rejected(RejectionReason.INDEX, f"a DICOMDIR: an index, not an image. {_READ_APART}")
    missing = Rejected(RejectionReason.MISSING, "named by a DICOMDIR, but does not exist. Copy the medium anew")
    folder, exists = container.name.rpartition("/")[0], _FileSet(container.path.parent)
    return [replace(container, rejection=index)] + [
        FoundFile("/".join((*filter(None, [folder]), *parts)), container.path, rejection=missing)
        for parts in sorted(named)
        if not exists(parts)
    ]


class _FileSet:
    """Whether files of a DICOMDIR exist, by names of any case: file IDs are upper case (PS3.10, 8.5), and many systems
    write a medium's files in lower case, or with the version number of ISO 9660."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def __call__(self, parts: tuple[str, ...]) -> bool:
        paths = [self._root]
        for part in parts:
            paths = [folder / name for folder in paths for name in self._names(folder).get(_file_id(part), [])]
        return any(path.is_file() for path in paths)

    def _names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._folders:
            names: dict[str, list[str]] = {}
            try:
                for name in os.listdir(folder):
                    names.setdefault(_file_id(name), []).append(name)
            except OSError:
                names = {}  # no folder, or none that can be read: nothing in it is found
            self._folders[folder] = names
        return self._folders[folder]


def _file_id(name: str) -> str:
    return name.upper().removesuffix(";1").rstrip(".")
