"""The display shutter: what the header says lies outside of the exposed field is hidden."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.imaging.header import Header


def visible_field(header: Header, shape: tuple[int, int]) -> tuple[NDArray[np.bool_] | None, str]:
    """The pixels that a display shutter leaves visible: those inside all of its shapes.

    Args:
        header: of the file.
        shape: rows and columns of the image as stored; the shutter's rows and columns count from 1.

    Returns:
        (rows, columns) bool, None where there is no shutter or it cannot be applied; and the shapes applied, or what is
        wrong. A shape that is unknown or not whole leaves the others in force.

    Source: PS3.3, C.7.6.11 (display shutter).
    """
    names = [text.upper() for text in header.texts("ShutterShape")]
    if not names:
        return None, ""
    shapes = {name: _SHAPES[name](header, shape) for name in names if name in _SHAPES}
    known = {name: inside for name, inside in shapes.items() if inside is not None}
    if not known:
        return None, "display shutter ignored: a shape that is unknown or not whole"
    seen = np.logical_and.reduce(list(known.values()))
    if not seen.any():
        return None, "display shutter ignored: it hides the whole image"
    missing = "" if len(known) == len(set(names)) else ", another shape ignored"
    return seen, " and ".join(known) + missing


def _rectangle(header: Header, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    edges = [
        header.integer(f"Shutter{edge}Edge")
        for edge in ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
    ]
    if any(edge is None for edge in edges):
        return None
    upper, lower, left, right = (edge or 0 for edge in edges)
    rows, columns = _rows_and_columns(shape)
    return np.asarray((rows >= upper) & (rows <= lower) & (columns >= left) & (columns <= right))


def _circle(header: Header, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The radius counts pixels along a row; where they are not square the circle is one in millimetres."""
    center, radius = header.numbers("CenterOfCircularShutter"), header.number("RadiusOfCircularShutter")
    if len(center) != 2 or radius is None or radius <= 0:
        return None
    rows, columns = _rows_and_columns(shape)
    height = _pixel_height(header)
    return np.asarray(((rows - center[0]) * height) ** 2 + (columns - center[1]) ** 2 <= radius**2)


def _polygon(header: Header, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Inside by the even-odd rule, edges included; vertices are pairs of row and column."""
    numbers = header.numbers("VerticesOfThePolygonalShutter")
    if len(numbers) < 6 or len(numbers) % 2:
        return None
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (shape[1], shape[0]))
    corners = [(column - 1, row - 1) for row, column in zip(numbers[::2], numbers[1::2], strict=True)]
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.asarray(canvas)


_SHAPES = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}


def _rows_and_columns(shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(1, shape[0] + 1)[:, None], np.arange(1, shape[1] + 1)[None, :]


def _pixel_height(header: Header) -> float:
    """Height of a pixel in widths."""
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "PixelAspectRatio"):
        sides = header.numbers(keyword)
        if len(sides) == 2 and min(sides) > 0:
            return sides[0] / sides[1]
    return 1.0


def hide(pixels: NDArray[np.unsignedinteger], seen: NDArray[np.bool_]) -> tuple[NDArray[np.unsignedinteger], int]:
    """Gives hidden pixels a bit pattern of their own.

    Args:
        pixels: (rows, columns) uint8 or uint16; is not changed.
        seen: (rows, columns), what is visible.

    Returns:
        The pixels, as uint16, and the pattern. An image that uses all 65536 patterns has its two lowest merged.
    """
    wide = pixels.astype(np.uint16)
    used = np.bincount(wide[seen], minlength=65536) > 0
    if used.all():
        wide[wide == 1] = 0
        used[1] = False
    pattern = int(np.flatnonzero(~used)[-1])
    wide[~seen] = pattern
    return wide, pattern
