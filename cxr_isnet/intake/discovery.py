"""Which files there are: a tree in a fixed order, with the members of zip archives and the entries of DICOMDIRs."""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.header import open_header
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason

_INDEX_NAME = "DICOMDIR"
_ARCHIVE_SUFFIX = ".zip"
LARGEST_MEMBER = 2**30
"""Bytes of the largest archive member that is unpacked, to memory."""


@dataclass(frozen=True)
class Found:
    """One file, or one member of an archive.

    Attributes:
        name: path from the root, with `/`, and `!` before a member of an archive. May hold a person's name.
        path: of the file or of the archive.
        member: position in the archive's list; None for a plain file.
        stamp: changes when the content does.
        refusal: why it need not be opened.
    """

    name: str
    path: Path
    member: int | None = None
    stamp: str = ""
    refusal: RejectedFile | None = None


def find_files(root: Path) -> Iterator[Found]:
    """Walk a folder, or take one file, archive or DICOMDIR.

    Folders that are links are not followed. Memory grows with the largest single folder, not with the tree.

    Args:
        root: folder or file. A DICOMDIR stands for its folder.

    Yields:
        Everything that is there, each once, in the order of the names.

    Raises:
        InputError: there is no such folder or file.
    """
    if root.is_dir():
        yield from _in_folder(root, "")
    elif root.name.upper() == _INDEX_NAME and root.is_file():
        yield from _in_folder(root.parent, "")
    elif root.is_file():
        yield from _of_file(root, root.name)
    else:
        raise InputError(f"root '{root}' is neither a folder nor a file. Correct the path")


def _in_folder(folder: Path, prefix: str) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        yield Found(prefix or ".", folder, refusal=RejectedFile.unreadable(error, "folder"))
        return
    for name, is_folder in listed:
        if is_folder:
            yield from _in_folder(folder / name, f"{prefix}{name}/")
        else:
            yield from _of_file(folder / name, f"{prefix}{name}")


def _of_file(path: Path, name: str) -> Iterator[Found]:
    try:
        status = path.stat()
    except OSError as error:
        yield Found(name, path, refusal=RejectedFile.unreadable(error))
        return
    stamp = f"{status.st_size}:{status.st_mtime_ns}"
    if not path.is_file():
        yield Found(name, path, stamp=stamp, refusal=RejectedFile(RejectionReason.NOT_DICOM, "no regular file"))
    elif path.name.upper() == _INDEX_NAME:
        yield from _of_index(path, name, stamp)
    elif path.suffix.lower() == _ARCHIVE_SUFFIX:
        yield from _of_archive(path, name, stamp)
    else:
        yield Found(name, path, stamp=stamp)


def _of_archive(path: Path, name: str, stamp: str) -> Iterator[Found]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(info.filename, at, info) for at, info in enumerate(archive.infolist()) if not info.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        detail = f"not a readable zip archive ({type(error).__name__}). Copy it anew from its source"
        yield Found(name, path, stamp=stamp, refusal=RejectedFile(RejectionReason.ARCHIVE, detail))
        return
    seen: dict[str, int] = {}
    for filename, at, info in sorted(members, key=lambda member: member[:2]):
        seen[filename] = seen.get(filename, 0) + 1
        again = f"#{seen[filename]}" if seen[filename] > 1 else ""
        yield Found(f"{name}!{filename}{again}", path, at, f"{info.file_size}:{info.CRC:08x}", _of_member(info))


def _of_member(info: zipfile.ZipInfo) -> RejectedFile | None:
    name = info.filename.rsplit("/", 1)[-1]
    if name.upper() == _INDEX_NAME:
        return _index()
    if name.lower().endswith(_ARCHIVE_SUFFIX):
        return RejectedFile(RejectionReason.ARCHIVE, "an archive within an archive. Unpack the outer one")
    if info.flag_bits & 1:
        return RejectedFile(RejectionReason.ARCHIVE, "an encrypted member of an archive. Unpack it with its password")
    if info.file_size > LARGEST_MEMBER:
        return RejectedFile(RejectionReason.ARCHIVE, f"a member of {info.file_size} bytes. Unpack the archive")
    return None


def _of_index(path: Path, name: str, stamp: str) -> Iterator[Found]:
    """The index itself, and the files that it names and that are not there; those that are there the walk finds."""
    try:
        with open_header(path) as index:
            named = {item.texts("ReferencedFileID") for item in index.items("DirectoryRecordSequence")} - {()}
    except RejectedFile as refusal:
        yield Found(name, path, stamp=stamp, refusal=refusal)
        return
    yield Found(name, path, stamp=stamp, refusal=_index())
    folder = name.rpartition("/")[0]
    for parts in sorted(named):
        if not path.parent.joinpath(*parts).is_file():
            missing = RejectedFile(RejectionReason.MISSING, "named by a DICOMDIR, and not there. Copy the medium anew")
            yield Found("/".join((*filter(None, [folder]), *parts)), path.parent.joinpath(*parts), refusal=missing)


def _index() -> RejectedFile:
    return RejectedFile(
        RejectionReason.INDEX, "a DICOMDIR: an index, no image. The files that it names are taken by themselves"
    )
