"""The folder in which a listener keeps what it was sent and what it has made of it.

An object's way through it is by renames, so that a kill at any moment loses nothing and scores nothing twice:

    incoming/<digest>.dcm    received, to be scored
    scoring/<digest>/        results that are being written; emptied at the start
    outgoing/<digest>/       results to be sent, or that stay here where there is nowhere to send them
    done/<digest>            an object with this digest is scored; the archive may send it again, it is not scored again
    attempts/<digest>        how often scoring of it was begun
    quarantine/<digest>.dcm  what cannot be used, with the reason in <digest>.txt

The digest is SHA-256 of the object's bytes. The folder holds patients' images: it is readable by its owner alone.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

_FOLDERS = ("incoming", "scoring", "outgoing", "done", "attempts", "quarantine")


class Spool:
    """The folder; see the module's text. All methods may be called after a kill at any point of any other."""

    def __init__(self, root: Path) -> None:
        """Makes the folders where they are missing, and clears what a kill left half done."""
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _FOLDERS:
            (root / name).mkdir(mode=0o700, exist_ok=True)
        for leftover in (*self.folder("scoring").iterdir(), *self.folder("incoming").glob(".*")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        for path in self.incoming():
            if self.folder("outgoing", path.stem).is_dir() or self.is_done(path.stem):
                self.close(path.stem)

    def folder(self, *names: str) -> Path:
        """A folder or file within the spool."""
        return self._root.joinpath(*names)

    def write(self, content: bytes, digest: str) -> Path:
        """Puts an object on the disk, whole, before it returns; it is not yet one to be scored."""
        path = self.folder("incoming", f".{digest}.{threading.get_ident()}")
        with path.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return path

    def accept(self, path: Path, digest: str) -> None:
        """Makes what `write` wrote an object to be scored; an equal one that waits already is the same."""
        _rename(path, self.folder("incoming", f"{digest}.dcm"))

    def incoming(self) -> list[Path]:
        """Objects to be scored, the oldest first."""
        return sorted(self.folder("incoming").glob("[!.]*.dcm"), key=lambda path: path.stat().st_mtime_ns)

    def is_done(self, digest: str) -> bool:
        """Whether an object with this digest is scored."""
        return self.folder("done", digest).exists()

    def begin(self, digest: str) -> int:
        """Notes an attempt to score an object; returns which it is, from 1."""
        path = self.folder("attempts", digest)
        count = int(path.read_text() or 0) + 1 if path.exists() else 1
        partial = path.with_name(f".{digest}")
        partial.write_text(str(count))
        _rename(partial, path)
        return count

    def finish(self, digest: str) -> None:
        """Commits the results in `scoring`, and closes the object."""
        _rename(self.folder("scoring", digest), self.folder("outgoing", digest))
        self.close(digest)

    def close(self, digest: str) -> None:
        """Marks a scored object as done and forgets its image."""
        self.folder("done", digest).touch()
        _sync(self.folder("done"))
        self.folder("incoming", f"{digest}.dcm").unlink(missing_ok=True)
        self.folder("attempts", digest).unlink(missing_ok=True)

    def quarantine(self, path: Path, digest: str, reason: str) -> None:
        """Takes an object out of the way, with the reason, which names no one."""
        place = self.folder("quarantine", f"{digest}.dcm")
        place.with_suffix(".txt").write_text(reason + "\n", encoding="utf-8")
        _rename(path, place)
        self.folder("attempts", digest).unlink(missing_ok=True)
        logger.warning("quarantined %s: %s", digest[:12], reason)

    def outgoing(self) -> list[Path]:
        """Folders of results that are committed; empty ones are removed."""
        found = []
        for folder in sorted(self.folder("outgoing").iterdir()):
            if not any(folder.iterdir()):
                folder.rmdir()
            elif self.is_done(folder.name):
                found.append(folder)
        return found


def _rename(source: Path, target: Path) -> None:
    """Renames, so that it outlasts a loss of power."""
    os.replace(source, target)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
