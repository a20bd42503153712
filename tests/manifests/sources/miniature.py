"""A miniature of each published set, in its publisher's layout, and what must come out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MINIATURES: dict[str, Miniature] = {}


@dataclass(frozen=True)
class Miniature:
    """How a set is made, and what its manifest must hold.

    Attributes:
        make: Fills an empty folder.
        labels: Rows per class.
        patients: Patients in the manifest.
        dropped: Images without a row, by reason; the label without a class is among them.
        masks: Rows with a mask.
    """

    make: Callable[[Path], None]
    labels: Mapping[str, int]
    patients: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    masks: int = 0


def miniature(
    source: str, labels: Mapping[str, int], patients: int, dropped: Mapping[str, int] | None = None, masks: int = 0
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Notes the decorated function as the maker of `source`."""

    def note(make: Callable[[Path], None]) -> Callable[[Path], None]:
        MINIATURES[source] = Miniature(make, labels, patients, dropped or {}, masks)
        return make

    return note
