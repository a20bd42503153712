"""Different files with the same content: a hash finds candidates, a correlation decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.checks.records import ImageRecord
from cxr_isnet.checks.similarity import SAME_PICTURE, agreement

MOST_BITS = 10
"""Bits of 64 in which the hashes of a candidate pair differ at most."""

_BLOCK = 1024


@dataclass(frozen=True)
class NearDuplicate:
    """Two files that show the same picture.

    Attributes:
        first: index of one picture.
        second: index of the other, larger than `first`.
        agreement: correlation of their fine detail.
    """

    first: int
    second: int
    agreement: float


def near_duplicates(records: Sequence[ImageRecord], thumbnails: NDArray[np.float32]) -> list[NearDuplicate]:
    """Pairs of pictures with the same content, of any resolution, exposure and compression.

    Args:
        records: with their hashes.
        thumbnails: (records, side, side).

    Returns:
        The pairs, best first.
    """
    found = (
        NearDuplicate(first, second, agreement(thumbnails[first], thumbnails[second]))
        for first, second in _candidates(np.array([record.hash for record in records], dtype=np.uint64))
    )
    return sorted((pair for pair in found if pair.agreement >= SAME_PICTURE), key=lambda pair: -pair.agreement)


def _candidates(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs, first below second, whose hashes differ in few bits."""
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        bits = np.bitwise_count(block[:, None] ^ hashes[None, start:])
        for first, second in np.argwhere(bits <= MOST_BITS):
            if first < second:
                yield start + int(first), start + int(second)
