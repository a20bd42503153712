"""The files of a folder in a fixed order, with the members of zip archives and the entries of DICOMDIRs."""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import RejectedFile, RejectionReason, open_header

_DICOMDIR_NAME = "DICOMDIR"
_ARCHIVE_SUFFIX = ".zip"
MAX_MEMBER_BYTES = 2**30
"""The largest archive member that is unpacked, which is done in memory."""


@dataclass(frozen=True)
class FoundFile:
    """One file, or one member of an archive.

    Attributes:
        name: path from the root, with `/`, and `!` before a member of an archive. May hold a person's name.
        path: of the file or of the archive.
        member: index in the archive's list of members; None for a plain file.
        stamp: size and modification time, or size and CRC of a member; changes when the content does.
        rejection: why it is rejected without being opened; None if it must be opened.
    """

    name: str
    path: Path
    member: int | None = None
    stamp: str = ""
    rejection: RejectedFile | None = None


def find_files(root: Path) -> Iterator[FoundFile]:
    """Walks a folder, or lists one file, archive or DICOMDIR.

    Links to folders are not followed. Memory grows with the largest single folder, not with the tree.

    Args:
        root: folder or file. A DICOMDIR stands for its folder.

    Yields:
        Every file and member once, in the order of their names.

    Raises:
        InputError: there is no such folder or file.
    """
    if root.is_dir():
        yield from _walk_folder(root, "")
    elif root.name.upper() == _DICOMDIR_NAME and root.is_file():
        yield from _walk_folder(root.parent, "")
    elif root.is_file():
        yield from _list_file(root, root.name)
    else:
        raise InputError(f"root '{root}' is neither a folder nor a file. Correct the path")


def _walk_folder(folder: Path, prefix: str) -> Iterator[FoundFile]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        yield FoundFile(prefix or ".", folder, rejection=RejectedFile.unreadable(error, "folder"))
        return
    for name, is_folder in listed:
        if is_folder:
            yield from _walk_folder(folder / name, f"{prefix}{name}/")
        else:
            yield from _list_file(folder / name, f"{prefix}{name}")


def _list_file(path: Path, name: str) -> Iterator[FoundFile]:
    try:
        status = path.stat()
    except OSError as error:
        yield FoundFile(name, path, rejection=RejectedFile.unreadable(error))
        return
    stamp = f"{status.st_size}:{status.st_mtime_ns}"
    if not path.is_file():
        special = RejectedFile(RejectionReason.NOT_DICOM, "not a regular file. Remove it")
        yield FoundFile(name, path, stamp=stamp, rejection=special)
    elif path.name.upper() == _DICOMDIR_NAME:
        yield from _list_dicomdir(path, name, stamp)
    elif path.suffix.lower() == _ARCHIVE_SUFFIX:
        yield from _list_archive(path, name, stamp)
    else:
        yield FoundFile(name, path, stamp=stamp)


def _list_archive(path: Path, name: str, stamp: str) -> Iterator[FoundFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                (info.filename, index, info) for index, info in enumerate(archive.infolist()) if not info.is_dir()
            ]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        detail = f"not a readable zip archive ({type(error).__name__}). Copy it anew from its source"
        yield FoundFile(name, path, stamp=stamp, rejection=RejectedFile(RejectionReason.ARCHIVE, detail))
        return
    seen: dict[str, int] = {}
    for filename, index, info in sorted(members, key=lambda member: member[:2]):
        seen[filename] = seen.get(filename, 0) + 1
        repeat = f"#{seen[filename]}" if seen[filename] > 1 else ""
        member_stamp = f"{info.file_size}:{info.CRC:08x}"
        yield FoundFile(f"{name}!{filename}{repeat}", path, index, member_stamp, _member_rejection(info))


def _member_rejection(info: zipfile.ZipInfo) -> RejectedFile | None:
    name = info.filename.rsplit("/", 1)[-1]
    if name.upper() == _DICOMDIR_NAME:
        return _dicomdir_rejection()
    if name.lower().endswith(_ARCHIVE_SUFFIX):
        return RejectedFile(RejectionReason.ARCHIVE, "an archive within an archive. Unpack the outer one")
    if info.flag_bits & 1:
        return RejectedFile(RejectionReason.ARCHIVE, "an encrypted member of an archive. Unpack it with its password")
    if info.file_size > MAX_MEMBER_BYTES:
        return RejectedFile(RejectionReason.ARCHIVE, f"a member of {info.file_size} bytes. Unpack the archive")
    return None


def _list_dicomdir(path: Path, name: str, stamp: str) -> Iterator[FoundFile]:
    """Lists a DICOMDIR and the files that it names but that do not exist; the walk finds those that do."""
    try:
        with open_header(path) as header:
            named = {item.texts("ReferencedFileID") for item in header.items("DirectoryRecordSequence")} - {()}
    except RejectedFile as rejected:
        yield FoundFile(name, path, stamp=stamp, rejection=rejected)
        return
    yield FoundFile(name, path, stamp=stamp, rejection=_dicomdir_rejection())
    folder = name.rpartition("/")[0]
    missing = RejectedFile(RejectionReason.MISSING, "named by a DICOMDIR, but does not exist. Copy the medium anew")
    for parts in sorted(named):
        target = path.parent.joinpath(*parts)
        if not target.is_file():
            yield FoundFile("/".join((*filter(None, [folder]), *parts)), target, rejection=missing)


def _dicomdir_rejection() -> RejectedFile:
    return RejectedFile(
        RejectionReason.INDEX, "a DICOMDIR: an index, not an image. The files that it names are read by themselves"
    )
