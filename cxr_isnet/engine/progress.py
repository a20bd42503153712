"""Progress of long work where no bar can be drawn: a line in the log now and then."""

from __future__ import annotations

import logging
import sys
import time

_log = logging.getLogger(__name__)

SECONDS = 60.0
"""Between two lines."""


class LoggedProgress:
    """Logs how far work is, how fast it goes and how long the rest takes, unless a terminal shows a bar.

    Args:
        what: Begins the line.
        total: Images in all.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._begun = self._last = time.monotonic()

    def advance(self, images: int) -> None:
        """Counts images that are done."""
        self._done += images
        now = time.monotonic()
        if now - self._last >= SECONDS and self._done < self._total and not sys.stderr.isatty():
            self._last = now
            rate = self._done / (now - self._begun)
            left = duration((self._total - self._done) / rate)
            _log.info("%s: %d of %d images, %.3g images/s, %s left", self._what, self._done, self._total, rate, left)


def duration(seconds: float) -> str:
    """A time as people say it: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
