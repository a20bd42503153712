"""Errors that the command line reports without a traceback: bad input, a training that diverged, an interruption."""

from __future__ import annotations

import errno
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HIDDEN = "***"
_PASSWORD = re.compile(r"""(?<=://)([^\s/?#:@'"]*):[^\s/?#'"]*@|(?<=[?&])(password|passwd|pwd|token)=[^\s&'"]*""")


def hide_passwords(text: str) -> str:
    """Text in which the password of every URL is "***": of what is printed, logged or stored.

    Example:
        >>> hide_passwords("http://ann:secret@host:5000/ and postgresql://host/db?user=ann&password=secret")
        'http://ann:***@host:5000/ and postgresql://host/db?user=ann&password=***'
    """
    return _PASSWORD.sub(lambda m: f"{m[1]}:{HIDDEN}@" if m[2] is None else f"{m[2]}={HIDDEN}", text)


class InputError(ValueError):
    """Bad input that the user can correct.

    The message names the file, the column or tag, the value seen and the remedy, and no password. The command line
    prints it without a traceback and exits with status 2; any other exception is a bug and is shown with its traceback.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(hide_passwords(str(message)))


class Problems:
    """Collects what several independent checks find, so that a user corrects all of it at once."""

    def __init__(self) -> None:
        self._found: list[InputError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Notes an `InputError` of the block, and goes on behind it."""
        try:
            yield
        except InputError as error:
            self._found.append(error)

    def raise_all(self) -> None:
        """Raises what was noted, a paragraph for each; does nothing where nothing was."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise InputError("\n".join(f"({i}) {error}" for i, error in enumerate(self._found, 1)))


class DivergedError(RuntimeError):
    """A loss that became NaN or infinite; the message names the files of the batch."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems, containers and `kill` send it; ends a command as Ctrl-C does."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Lets SIGTERM raise `Terminated` for a block, so that what is open is ended: in the main thread, and where nothing
    else handles the signal."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def sigterm_deferred() -> Iterator[None]:
    """Holds a SIGTERM back until the block has ended, which it would otherwise leave in the middle of a transaction."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not _terminate:
        yield
        return
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _terminate)
    if received:
        raise Terminated


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


_OF_THE_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ESTALE, errno.EBUSY, errno.ENOTDIR, errno.ELOOP),
)


def is_of_the_disk(error: OSError) -> bool:
    """Whether a disk, its permissions or its names are the cause, which the user can cure, and not this program."""
    return error.errno in _OF_THE_DISK
