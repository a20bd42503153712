"""Members of zip archives, read by their place in the archive's list."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from cxr_isnet.imaging import RejectedFile, RejectionReason

_ERRORS = (RuntimeError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass
class ArchiveReader:
    """Reads members, and keeps the last archive open: its list is parsed once, and not once for each member."""

    _path: Path | None = field(default=None, init=False)
    _archive: zipfile.ZipFile | None = field(default=None, init=False)

    def read(self, path: Path, member: int, most: int) -> bytes:
        """The content of a member.

        Args:
            path: of the archive.
            member: index in the archive's list of members.
            most: bytes that it may unpack to.

        Raises:
            RejectedFile: it does not unpack, or to more.
            OSError: the archive cannot be read.
        """
        try:
            archive = self._open(path)
            info = archive.infolist()[member]
            content = archive.read(info) if info.file_size <= most else None  # of no more bytes than the list says
        except NotImplementedError as error:
            raise RejectedFile(
                RejectionReason.ARCHIVE,
                "the member of the archive is packed in a way that is not known, as Deflate64. Unpack the archive",
            ) from error
        except _ERRORS as error:
            raise RejectedFile(
                RejectionReason.ARCHIVE,
                f"the member of the archive does not unpack ({type(error).__name__}). Copy the archive anew",
            ) from error
        if content is None:
            raise RejectedFile(
                RejectionReason.LIMIT,
                f"a member that unpacks to {info.file_size} bytes, more than {most}. Raise limits.megabytes",
            )
        return content

    def _open(self, path: Path) -> zipfile.ZipFile:
        if self._archive is None or path != self._path:
            if self._archive is not None:
                self._archive.close()
                self._archive = None
            self._archive, self._path = zipfile.ZipFile(path), path
        return self._archive
