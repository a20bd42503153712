"""Turning an image to the standard orientation: the patient's right on the left, the head on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_isnet.imaging.header import Header

Value = TypeVar("Value", bound=np.generic)

EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Turn:
    """A turn by multiples of 90 degrees, with or without mirroring; false if it changes nothing.

    Attributes:
        transpose: rows become columns, before the flips.
        flip_rows: the order of the rows is reversed.
        flip_columns: the order of the columns is reversed.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_rows or self.flip_columns

    def __call__(self, array: NDArray[Value]) -> NDArray[Value]:
        """The turned (rows, columns)."""
        turned = array.T if self.transpose else array
        return np.ascontiguousarray(turned[self._steps()])

    def undo(self, array: NDArray[Value]) -> NDArray[Value]:
        """The (rows, columns) that was turned."""
        flipped = array[self._steps()]
        return np.ascontiguousarray(flipped.T if self.transpose else flipped)

    def _steps(self) -> tuple[slice, slice]:
        return slice(None, None, -1 if self.flip_rows else 1), slice(None, None, -1 if self.flip_columns else 1)


def turn_by_header(header: Header) -> Turn:
    r"""The turn by PatientOrientation (0020,0020): what rows and columns run to.

    A frontal image comes to L\F. A lateral one, whose side the tag does not tell, is turned with its feet down, never
    mirrored. Anything else stays as it is.

    Source: PS3.3, C.7.6.1.1.1.
    """
    directions = header.texts("PatientOrientation")
    if len(directions) != 2:
        return Turn()
    row, column = (text[:1].upper() for text in directions)
    transpose = row in "HF"
    if transpose:
        row, column = column, row
    if column not in "HF":
        return Turn()
    if row in "LR":
        return Turn(transpose, flip_rows=column == "H", flip_columns=row == "R")
    if row in "AP":
        upside_down = column == "H"
        return Turn(transpose, flip_rows=upside_down, flip_columns=upside_down != transpose)
    return Turn()


def turn_by_exif(picture: Image.Image) -> Turn:
    """The turn by the EXIF tag Orientation, of which Pillow applies that of TIFF itself.

    Source: CIPA DC-008 (Exif), 4.6.4.
    """
    orientation: Any = None if picture.format == "TIFF" else picture.getexif().get(EXIF_ORIENTATION)
    return _BY_EXIF.get(orientation, Turn())


_BY_EXIF: dict[Any, Turn] = {
    2: Turn(flip_columns=True),
    3: Turn(flip_rows=True, flip_columns=True),
    4: Turn(flip_rows=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, flip_columns=True),
    7: Turn(transpose=True, flip_rows=True, flip_columns=True),
    8: Turn(transpose=True, flip_rows=True),
}
