"""Lookup tables of a DICOM header: LUT Descriptor and LUT Data as an array, and its application.

Own code in place of pydicom's `apply_modality_lut` and `apply_voi`, which hold the index in as many bits as an entry
has, so that it wraps, and unpack every table as 16-bit words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.imaging.header import Header


@dataclass(frozen=True)
class LookupTable:
    """A table of a modality LUT or of a VOI LUT.

    Attributes:
        entries: (n,) int64.
        first: value that the first entry belongs to.
        bits: of an entry, as the descriptor says.
    """

    entries: NDArray[np.int64]
    first: int
    bits: int

    @property
    def top(self) -> int:
        """Highest value that entries of these bits can have."""
        return int(2**self.bits - 1)

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry of every value; a value below the first or above the last has that entry."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[index], dtype=np.float64)


def read_lookup_table(item: Header, value_range: tuple[float, float], little_endian: bool) -> LookupTable:
    """The table of an item of ModalityLUTSequence or VOILUTSequence.

    Entries of 8 bits are packed, two to a word of 16 bits, or padded to a word each: the length tells.

    Args:
        item: with LUTDescriptor (0028,3002) and LUTData (0028,3006).
        value_range: lowest and highest value that the table is applied to; they tell the sign of the first value.
        little_endian: byte order of the file.

    Raises:
        ValueError: a tag is missing, makes no sense, or there are fewer entries than it says.

    Source: PS3.3, C.11.1.1.1 and C.11.2.1.1.
    """
    descriptor = item.texts("LUTDescriptor")
    if len(descriptor) != 3:
        raise ValueError(f"LUTDescriptor of {len(descriptor)} values")
    number, first, bits = (int(text) for text in descriptor)
    number = number % 65536 or 65536  # VR SS wraps; 0 stands for 65536
    if not 1 <= bits <= 16:
        raise ValueError(f"{bits} bits per entry")
    low, top = value_range
    if first < 0 <= low:
        first += 65536
    elif first > top and low < 0:
        first -= 65536
    words = _words(item.dataset.get("LUTData"), little_endian)
    packed = bits <= 8 and number <= 2 * len(words) < 2 * number
    entries = words.astype("<u2").view(np.uint8) if packed else words
    if len(entries) < number:
        raise ValueError(f"{len(entries)} entries of {number}")
    return LookupTable(entries[:number].astype(np.int64), first, bits)


def _words(data: object, little_endian: bool) -> NDArray[np.uint16]:
    """LUT Data, read as bytes (VR OW, in the file's byte order) or as numbers (VR US or SS), as words of 16 bits."""
    if isinstance(data, bytes):
        if len(data) % 2:
            data += b"\0"
        return np.frombuffer(data, "<u2" if little_endian else ">u2").astype(np.uint16)
    numbers = np.atleast_1d(np.asarray(data, dtype=np.int64))
    return (numbers & 0xFFFF).astype(np.uint16)
